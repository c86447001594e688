// The official JavaScript client: each of its helpers, its echo of an answer, and every route that it has words for.
import { setTimeout as sleep } from "node:timers/promises";
import OpenAI, { toFile } from "openai";
import { zodResponseFormat, zodResponsesFunction, zodTextFormat, zodFunction } from "openai/helpers/zod";
import { z } from "zod";
import {
  API_KEY, API_URL, EMBEDDING_MODEL, LONG_TEXT, MESSAGES, MODEL, PATIENCE, SCENARIO, floats, raised, run,
} from "./program.mjs";

const Weather = z.object({
  city: z.string(), days: z.number().int(), unit: z.enum(["C", "F"]), code: z.union([z.number().int(), z.string()]),
});
const Tree = z.object({
  name: z.string(), height: z.number().int(), kind: z.enum(["conifer", "broadleaf"]), note: z.number().int().nullable(),
});
const client = new OpenAI({ baseURL: API_URL, apiKey: API_KEY, maxRetries: 0, timeout: PATIENCE });
const chats = client.chat.completions;
const plain = { model: MODEL, messages: MESSAGES, max_tokens: SCENARIO.max_tokens, temperature: 0 };
const long = { model: MODEL, max_tokens: 400, temperature: 0 };
const asked = { role: "user", content: SCENARIO.tool_question };
const formAsked = { role: "user", content: SCENARIO.form_question };
const tool = zodFunction({ name: "get_weather", parameters: Weather });
const looseTool = { type: "function", function: { name: "get_weather", parameters: z.toJSONSchema(Weather) } };
const forced = { type: "function", function: { name: "get_weather" } };
const counts = (usage) => usage && [usage.prompt_tokens, usage.completion_tokens, usage.total_tokens];
const vectors = (reply, decode) => ({
  vectors: reply.data.map((item) => decode(item.embedding)), prompt_tokens: reply.usage.prompt_tokens,
});

async function secondTurn(message) {
  const result = { role: "tool", tool_call_id: message.tool_calls[0].id, content: SCENARIO.tool_result };
  const request = { ...plain, messages: [asked, message, result], tools: [tool], tool_choice: "none" };
  const choice = (await chats.create(request)).choices[0];
  return { text: choice.message.content, finish: choice.finish_reason };
}

/** The helper that calls the application's function itself, and the conversation that it leaves behind. */
async function ranTools(stream) {
  const called = [];
  const run = (given) => (called.push(given), SCENARIO.tool_result);
  const runner = chats.runTools({
    ...long, stream, messages: [asked], tool_choice: forced,
    tools: [{ type: "function", function: { ...looseTool.function, parse: JSON.parse, function: run } }],
  });
  await runner.done();
  if (!called.length) throw new Error("the helper called nothing");
  const request = { ...plain, messages: runner.messages, tools: [tool], tool_choice: "none" };
  const choice = (await chats.create(request)).choices[0];
  return { text: choice.message.content, finish: choice.finish_reason };
}

const features = {
  chat: async () => {
    const answer = await chats.create(plain);
    const choice = answer.choices[0];
    return { id: answer.id, text: choice.message.content, finish: choice.finish_reason, usage: counts(answer.usage) };
  },
  stream: async () => {
    const pieces = [];
    let finish = null;
    for await (const chunk of await chats.create({ ...plain, stream: true })) {
      for (const choice of chunk.choices) {
        finish = choice.finish_reason ?? finish;
        if (choice.delta.content) pieces.push(choice.delta.content);
      }
    }
    return { text: pieces.join(""), pieces: pieces.length, finish };
  },
  "usage in stream": async () => {
    const found = [];
    for await (const chunk of await chats.create({ ...plain, stream: true, stream_options: { include_usage: true } }))
      if (chunk.usage) found.push(counts(chunk.usage));
    return { usage: found[0], chunks_with_usage: found.length };
  },
  "forced tool": async () => {
    const { message, finish_reason } = (await chats.create({ ...long, messages: [asked], tools: [looseTool], tool_choice: forced })).choices[0];
    const call = message.tool_calls[0];
    return { call_id: call.id, name: call.function.name, arguments: JSON.parse(call.function.arguments), finish: finish_reason };
  },
  "tool loop": async () => {
    const request = { ...long, messages: [asked], tools: [tool], tool_choice: forced };
    return {
      echoes: {
        "create()": await secondTurn((await chats.create(request)).choices[0].message),
        "parse()": await secondTurn((await chats.parse(request)).choices[0].message),
        "stream().finalMessage()": await secondTurn(await chats.stream(request).finalMessage()),
        "runTools()": await ranTools(false),
        "runTools({stream})": await ranTools(true),
      },
    };
  },
  structured: async () => {
    const request = { ...long, messages: [formAsked], response_format: zodResponseFormat(Tree, "tree") };
    const { message } = (await chats.parse(request)).choices[0];
    const turns = [formAsked, message, { role: "user", content: "Shorter." }];
    const second = await chats.create({ ...plain, messages: turns });
    return { value: Tree.parse(message.parsed), echo: second.choices[0].message.content };
  },
  "structured + tools": async () => {
    const request = { ...long, messages: [formAsked], response_format: zodResponseFormat(Tree, "tree"), tools: [tool] };
    const { message } = (await chats.parse(request)).choices[0];
    return message.tool_calls?.length ? { name: message.tool_calls[0].function.name } : { value: message.parsed };
  },
  "MCP tools": async () => {
    const tools = SCENARIO.mcp_tools.map(({ name, description, inputSchema }) => (
      { type: "function", function: { name, description, parameters: inputSchema } }));
    const answer = await chats.create({ ...plain, tools });
    return { finish: answer.choices[0].finish_reason, usage: counts(answer.usage) };
  },
  "embeddings: texts": async () => vectors(
    await client.embeddings.create({ model: EMBEDDING_MODEL, input: SCENARIO.texts, encoding_format: "float" }), (v) => v),
  "embeddings: base64": async () => vectors(
    await client.embeddings.create({ model: EMBEDDING_MODEL, input: SCENARIO.texts, encoding_format: "base64" }), floats),
  "embeddings: tokens": async () => vectors(
    await client.embeddings.create({ model: EMBEDDING_MODEL, input: SCENARIO.tokens }), (v) => v),
  responses: async () => {
    const request = { model: MODEL, instructions: SCENARIO.system, input: SCENARIO.question, max_output_tokens: 16, temperature: 0 };
    const { id, output_text, status, usage } = await client.responses.create(request);
    const events = [];
    for await (const event of await client.responses.create({ ...request, stream: true })) events.push(event.type);
    return { id, text: output_text, finish: status, usage: usage && [usage.input_tokens, usage.output_tokens, usage.total_tokens], events };
  },
  "responses: tool loop": async () => {
    const request = { model: MODEL, temperature: 0, tools: [zodResponsesFunction({ name: "get_weather", parameters: Weather })] };
    const first = await client.responses.parse({
      ...request, input: SCENARIO.tool_question, max_output_tokens: 400, tool_choice: { type: "function", name: "get_weather" },
    });
    const call = first.output.find((item) => item.type === "function_call");
    const result = { type: "function_call_output", call_id: call.call_id, output: SCENARIO.tool_result };
    const echoes = {};
    for (const [how, given] of Object.entries({
      output: { input: [asked, ...first.output, result] },
      previous_response_id: { input: [result], previous_response_id: first.id },
    })) {
      const { output_text, status } = await client.responses.create({ ...request, ...given, max_output_tokens: 16, tool_choice: "none" });
      echoes[how] = { text: output_text, finish: status };
    }
    return { echoes, call_id: call.call_id, name: call.name, arguments: JSON.parse(call.arguments) };
  },
  "responses: structured": async () => {
    const request = { model: MODEL, input: SCENARIO.form_question, text: { format: zodTextFormat(Tree, "tree") }, max_output_tokens: 400, temperature: 0 };
    return { value: Tree.parse((await client.responses.parse(request)).output_parsed) };
  },
  completions: async () => {
    const reply = await client.completions.create({ model: MODEL, prompt: ["A larch is", "An oak is"], max_tokens: 4, temperature: 0 });
    const scored = await client.completions.create({ model: MODEL, prompt: "A larch is", max_tokens: 0, echo: true, logprobs: 1 });
    return {
      texts: reply.choices.map((choice) => choice.text),
      indices: reply.choices.map((choice) => choice.index),
      token_logprobs: scored.choices[0].logprobs.token_logprobs,
    };
  },
  batches: async () => {
    const lines = [1, 2].map((n) => JSON.stringify(
      { custom_id: `r${n}`, method: "POST", url: "/v1/chat/completions", body: { ...plain, max_tokens: n } }));
    const file = await client.files.create({ file: await toFile(Buffer.from(lines.join("\n")), "requests.jsonl"), purpose: "batch" });
    let batch = await client.batches.create({ input_file_id: file.id, endpoint: "/v1/chat/completions", completion_window: "24h" });
    const deadline = Date.now() + PATIENCE;
    while (!["completed", "failed", "expired", "cancelled"].includes(batch.status) && Date.now() < deadline) {
      await sleep(500);
      batch = await client.batches.retrieve(batch.id);
    }
    const content = batch.output_file_id ? await (await client.files.content(batch.output_file_id)).text() : "";
    const results = content.split("\n").filter(Boolean).map((line) => JSON.parse(line));
    const listed = (await client.batches.list({ limit: 5 })).data.some((other) => other.id === batch.id);
    return {
      status: batch.status,
      results: Object.fromEntries(results.map((result) => [result.custom_id, result.response.status_code])),
      listed,
      file: (await client.files.delete(file.id)).deleted,
    };
  },
  errors: async () => {
    const stranger = client.withOptions({ apiKey: "eg-nobody-has-this-key" });
    const at = (given) => () => chats.create({ ...plain, ...given });
    return {
      classes: {
        401: await raised("AuthenticationError", () => stranger.chat.completions.create(plain)),
        404: await raised("NotFoundError", at({ model: "gpt-99" })),
        400: await raised("BadRequestError", at({ temperature: 9 })),
        context: await raised("BadRequestError", at({ messages: [{ role: "user", content: LONG_TEXT }] })),
        timeout: await raised("APIConnectionTimeoutError", () => chats.create(plain, { timeout: 1 })),
      },
    };
  },
};

const onlyOpenai = "speaks OpenAI's protocol";
await run(["openai", "zod"], features, { messages: onlyOpenai, "messages: tool loop": onlyOpenai });
