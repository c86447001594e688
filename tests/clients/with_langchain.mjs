// LangChain's OpenAI classes for JavaScript.
import { HumanMessage, SystemMessage, ToolMessage } from "@langchain/core/messages";
import { ChatOpenAI, OpenAI, OpenAIEmbeddings } from "@langchain/openai";
import { z } from "zod";
import { API_KEY, API_URL, EMBEDDING_MODEL, LONG_TEXT, MODEL, PATIENCE, SCENARIO, raised, run } from "./program.mjs";

const Weather = z.object({
  city: z.string(), days: z.number().int(), unit: z.enum(["C", "F"]), code: z.union([z.number().int(), z.string()]),
});
const Tree = z.object({
  name: z.string(), height: z.number().int(), kind: z.enum(["conifer", "broadleaf"]), note: z.number().int().nullable(),
});
const access = { apiKey: API_KEY, configuration: { baseURL: API_URL }, maxRetries: 0, timeout: PATIENCE };
const MESSAGES = [new SystemMessage(SCENARIO.system), new HumanMessage(SCENARIO.question)];
const ASKED = new HumanMessage(SCENARIO.tool_question);
const FORM_ASKED = new HumanMessage(SCENARIO.form_question);
const WEATHER = { name: "get_weather", description: "Weather", schema: Weather };
const model = (maxTokens = SCENARIO.max_tokens, fields = {}) =>
  new ChatOpenAI({ ...access, model: MODEL, maxTokens, temperature: 0, ...fields });
const counts = (usage) => usage && [usage.input_tokens, usage.output_tokens, usage.total_tokens];

function told(answer) {
  const { finish_reason, status, id } = answer.response_metadata;
  return { id: id ?? answer.id, text: answer.text, finish: finish_reason ?? status, usage: counts(answer.usage_metadata) };
}

async function streamed(chat) {
  const pieces = [];
  let whole;
  let withUsage = 0;
  for await (const chunk of await chat.stream(MESSAGES)) {
    whole = whole ? whole.concat(chunk) : chunk;
    if (chunk.text) pieces.push(chunk.text);
    if (chunk.usage_metadata) withUsage += 1;
  }
  return { pieces, whole, withUsage };
}

function called(answer) {
  const [call] = answer.tool_calls;
  return { call_id: call.id, name: call.name, arguments: call.args };
}

/** The model's message goes back as it came, whole and put together from a stream. */
async function loop(chat, brief) {
  const forced = chat.bindTools([WEATHER], { tool_choice: "get_weather" });
  let joined;
  for await (const chunk of await forced.stream([ASKED])) joined = joined ? joined.concat(chunk) : chunk;
  const first = await forced.invoke([ASKED]);
  const echoes = {};
  for (const [how, message] of Object.entries({ "invoke()": first, "stream()": joined })) {
    const result = new ToolMessage({ content: SCENARIO.tool_result, tool_call_id: message.tool_calls[0].id });
    const second = await brief.bindTools([WEATHER], { tool_choice: "none" }).invoke([ASKED, message, result]);
    echoes[how] = { text: told(second).text, finish: told(second).finish };
  }
  return { echoes, ...called(first) };
}

async function structured(chat, method) {
  const value = await chat.withStructuredOutput(Tree, { name: "tree", method }).invoke([FORM_ASKED]);
  return { value: Tree.parse(value) };
}

const embeddings = (fields = {}) => new OpenAIEmbeddings({ ...access, model: EMBEDDING_MODEL, ...fields });
const features = {
  chat: async () => told(await model().invoke(MESSAGES)),
  stream: async () => {
    const { pieces, whole } = await streamed(model());
    return { pieces: pieces.length, text: pieces.join(""), finish: whole.response_metadata.finish_reason };
  },
  "usage in stream": async () => {
    const { whole, withUsage } = await streamed(model(undefined, { streamUsage: true }));
    return { usage: counts(whole.usage_metadata), chunks_with_usage: withUsage };
  },
  "forced tool": async () => {
    await model(400).bindTools([WEATHER], { tool_choice: "any", strict: true }).invoke([ASKED]);
    const answer = await model(400).bindTools([WEATHER], { tool_choice: "any" }).invoke([ASKED]);
    return { ...called(answer), finish: answer.response_metadata.finish_reason };
  },
  "tool loop": () => loop(model(400), model()),
  "MCP tools": async () => {
    const tools = SCENARIO.mcp_tools.map(({ name, description, inputSchema }) => (
      { type: "function", function: { name, description, parameters: inputSchema } }));
    const { finish, usage } = told(await model().bindTools(tools).invoke(MESSAGES));
    return { finish, usage };
  },
  structured: async () => {
    await structured(model(400), "functionCalling");
    return structured(model(400), "jsonSchema");
  },
  "structured + tools": async () => {
    const chain = model(400).withStructuredOutput(Tree, { name: "tree", method: "jsonSchema", tools: [WEATHER], includeRaw: true });
    const { raw, parsed } = await chain.invoke([FORM_ASKED]);
    return raw.tool_calls?.length ? { name: raw.tool_calls[0].name } : { value: parsed };
  },
  "embeddings: texts": async () => ({ vectors: await embeddings().embedDocuments(SCENARIO.texts) }),
  "embeddings: base64": async () => ({
    vectors: await embeddings({ encodingFormat: "base64" }).embedDocuments(SCENARIO.texts),
  }),
  responses: async () => {
    const { pieces } = await streamed(model(undefined, { useResponsesApi: true }));
    if (pieces.length < 2) throw new Error(`${pieces.length} pieces`);
    return { ...told(await model(undefined, { useResponsesApi: true }).invoke(MESSAGES)), hidden: ["events"] };
  },
  "responses: tool loop": () => loop(model(400, { useResponsesApi: true }), model(undefined, { useResponsesApi: true })),
  "responses: structured": () => structured(model(400, { useResponsesApi: true }), "jsonSchema"),
  completions: async () => {
    const answers = await new OpenAI({ ...access, model: MODEL, maxTokens: 4, temperature: 0 }).generate(["A larch is", "An oak is"]);
    return { texts: answers.generations.map(([answer]) => answer.text), hidden: ["token_logprobs"] };
  },
  errors: async () => ({
    classes: {
      401: await raised("AuthenticationError", () => model(4, { apiKey: "eg-nobody" }).invoke(MESSAGES)),
      404: await raised("NotFoundError", () => model(4, { model: "gpt-99" }).invoke(MESSAGES)),
      400: await raised("BadRequestError", () => model(4, { temperature: 9 }).invoke(MESSAGES)),
      context: await raised("ContextOverflowError", () => model(4).invoke([new HumanMessage(LONG_TEXT)])),
    },
  }),
};

const protocol = "this package speaks OpenAI's protocol";
await run(["@langchain/openai", "openai"], features, {
  "embeddings: tokens": "sends texts only",
  messages: protocol,
  "messages: tool loop": protocol,
  batches: "has no batches",
});
