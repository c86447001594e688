// Vercel's AI SDK over one provider after another: the same calls, whatever protocol is below them.
import {
  APICallError, Output, embedMany, generateText, isStepCount, jsonSchema, streamText, tool,
} from "ai";
import { z } from "zod";
import { LONG_TEXT, SCENARIO, raised } from "./program.mjs";

const Weather = z.object({
  city: z.string(), days: z.number().int(), unit: z.enum(["C", "F"]), code: z.union([z.number().int(), z.string()]),
});
const Tree = z.object({
  name: z.string(), height: z.number().int(), kind: z.enum(["conifer", "broadleaf"]), note: z.number().int().nullable(),
});
const brief = { maxOutputTokens: SCENARIO.max_tokens, temperature: 0, maxRetries: 0 };
const long = { ...brief, maxOutputTokens: 400 };
const asked = { instructions: SCENARIO.system, prompt: SCENARIO.question };
const counts = (usage) => [usage.inputTokens, usage.outputTokens, usage.totalTokens];
const forced = { type: "tool", toolName: "get_weather" };
const weather = (execute) => tool({ description: "Weather", inputSchema: Weather, execute });

export async function answered(model) {
  const answer = await generateText({ model, ...brief, ...asked });
  return { id: answer.finalStep.response.id, text: answer.text, finish: answer.finishReason, usage: counts(answer.usage) };
}

export async function streamed(model) {
  const result = streamText({ model, ...brief, ...asked, onError: () => {} });
  const pieces = [];
  for await (const piece of result.textStream) if (piece) pieces.push(piece);
  return { pieces: pieces.length, text: pieces.join(""), finish: await result.finishReason, usage: counts(await result.usage) };
}

export async function call(model) {
  const answer = await generateText({
    model, ...long, prompt: SCENARIO.tool_question, tools: { get_weather: weather() }, toolChoice: forced,
  });
  const [made] = answer.toolCalls;
  return { call_id: made.toolCallId, name: made.toolName, arguments: made.input, finish: answer.finishReason };
}

/** The SDK's own loop of two steps, whole and streamed, and the messages that it leaves, put back. */
export async function loop(model) {
  const seen = [];
  const settings = {
    model, ...long, maxOutputTokens: 100, prompt: SCENARIO.tool_question, stopWhen: isStepCount(2),
    tools: { get_weather: weather(async (given) => (seen.push(given), SCENARIO.tool_result)) },
    prepareStep: ({ stepNumber }) => ({ toolChoice: stepNumber === 0 ? forced : "none" }),
  };
  const whole = await generateText(settings);
  const stream = streamText({ ...settings, onError: () => {} });
  const pieces = [];
  for await (const piece of stream.textStream) pieces.push(piece);
  const steps = (await stream.steps).length;
  if (whole.steps.length !== 2 || steps !== 2) throw new Error(`${whole.steps.length} and ${steps} steps`);
  const after = await generateText({
    model, ...brief,
    messages: [{ role: "user", content: SCENARIO.tool_question }, ...whole.responseMessages, { role: "user", content: "And tomorrow?" }],
  });
  const [made] = whole.steps[0].toolCalls;
  return {
    call_id: made.toolCallId, name: made.toolName, arguments: seen[0],
    echoes: {
      "generateText, two steps": { text: whole.text, finish: whole.finishReason },
      "streamText, two steps": { text: pieces.join(""), finish: await stream.finishReason },
      "responseMessages": { text: after.text, finish: after.finishReason },
    },
  };
}

export async function formed(model) {
  const settings = { model, ...long, prompt: SCENARIO.form_question, output: Output.object({ schema: Tree }) };
  const stream = streamText({ ...settings, onError: () => {} });
  for await (const _ of stream.partialOutputStream);
  Tree.parse(await stream.output);
  return { value: Tree.parse((await generateText(settings)).output) };
}

export async function formedWithTools(model) {
  const answer = await generateText({
    model, ...long, prompt: SCENARIO.form_question, output: Output.object({ schema: Tree }), tools: { get_weather: weather() },
  });
  return answer.toolCalls.length ? { name: answer.toolCalls[0].toolName } : { value: answer.output };
}

export async function mcpTools(model) {
  const tools = Object.fromEntries(SCENARIO.mcp_tools.map(({ name, description, inputSchema }) => (
    [name, tool({ description, inputSchema: jsonSchema(inputSchema) })])));
  const answer = await generateText({ model, ...brief, ...asked, tools });
  return { finish: answer.finishReason, usage: counts(answer.usage) };
}

export async function embedded(model) {
  const { embeddings, usage } = await embedMany({ model, values: SCENARIO.texts, maxRetries: 0 });
  return { vectors: embeddings, prompt_tokens: usage.tokens };
}

/** Refusals come as one class, so its status is part of the name here. */
export async function errors(made, stranger, nameless) {
  const status = (given) => async () => {
    try {
      await generateText({ ...brief, ...asked, ...given });
    } catch (error) {
      if (!APICallError.isInstance(error)) throw error;
      throw Object.assign(new Error(error.message), { name: `APICallError ${error.statusCode}` });
    }
  };
  return {
    classes: {
      401: await raised("APICallError 401", status({ model: stranger })),
      404: await raised("APICallError 404", status({ model: nameless })),
      400: await raised("APICallError 400", status({ model: made, temperature: 9 })),
      context: await raised("APICallError 400", status({ model: made, prompt: LONG_TEXT })),
    },
  };
}

/** What the features of one protocol are called, over a model of it. */
export const chatFeatures = (model) => ({
  chat: () => answered(model),
  stream: () => streamed(model),
  "usage in stream": async () => ({ usage: (await streamed(model)).usage }),
  "forced tool": () => call(model),
  "tool loop": () => loop(model),
  "MCP tools": () => mcpTools(model),
  structured: () => formed(model),
  "structured + tools": () => formedWithTools(model),
});

export async function completed(model) {
  const texts = [];
  for (const prompt of ["A larch is", "An oak is"])
    texts.push((await generateText({ model, ...brief, maxOutputTokens: 4, prompt })).text);
  return { texts, hidden: ["token_logprobs"] };
}

export async function protocolAnswer(model) {
  if ((await streamed(model)).pieces < 2) throw new Error("no stream");
  return { ...(await answered(model)), hidden: ["events"] };
}
