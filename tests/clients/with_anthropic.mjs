// Anthropic's JavaScript client, with an address, a key, and the header for it.
import Anthropic from "@anthropic-ai/sdk";
import { zodOutputFormat } from "@anthropic-ai/sdk/helpers/zod";
import { z } from "zod";
import { API_KEY, API_URL, LONG_TEXT, MODEL, PATIENCE, SCENARIO, raised, run } from "./program.mjs";

const Tree = z.object({
  name: z.string(), height: z.number().int(), kind: z.enum(["conifer", "broadleaf"]), note: z.number().int().nullable(),
});
// By itself this version sends the key as `Authorization: Bearer`, which the route does not read.
const client = new Anthropic({
  baseURL: API_URL.replace(/\/v1$/, ""), apiKey: API_KEY, defaultHeaders: { "X-Api-Key": API_KEY },
  maxRetries: 0, timeout: PATIENCE,
});
const asked = { role: "user", content: SCENARIO.tool_question };
const plain = {
  model: MODEL, system: SCENARIO.system, messages: [{ role: "user", content: SCENARIO.question }],
  max_tokens: SCENARIO.max_tokens, temperature: 0,
};
const weather = { name: "get_weather", description: "Weather", input_schema: SCENARIO.arguments };
const counts = (usage) => [usage.input_tokens, usage.output_tokens, usage.input_tokens + usage.output_tokens];
const textOf = (answer) => answer.content.filter((block) => block.type === "text").map((block) => block.text).join("");
const formed = (given = {}) => client.messages.parse({
  model: MODEL, max_tokens: 400, temperature: 0, messages: [{ role: "user", content: SCENARIO.form_question }],
  output_config: { format: zodOutputFormat(Tree) }, ...given,
});

const features = {
  messages: async () => {
    const answer = await client.messages.create(plain);
    const events = [];
    for await (const event of await client.messages.create({ ...plain, stream: true })) events.push(event.type);
    if (!(await client.messages.stream(plain).finalText())) throw new Error("the helper streamed no text");
    return { id: answer.id, text: textOf(answer), finish: answer.stop_reason, usage: counts(answer.usage), events };
  },
  "messages: tool loop": async () => {
    const request = { ...plain, messages: [asked], max_tokens: 400, tools: [weather], tool_choice: { type: "tool", name: "get_weather" } };
    const whole = await client.messages.create(request);
    const streamed = await client.messages.stream(request).finalMessage();
    const echoes = {};
    for (const [how, { content }] of Object.entries({ "create()": whole, "stream()": streamed })) {
      const result = { type: "tool_result", tool_use_id: content.at(-1).id, content: SCENARIO.tool_result };
      const messages = [asked, { role: "assistant", content }, { role: "user", content: [result] }];
      const answer = await client.messages.create({ ...plain, messages, tools: [weather], tool_choice: { type: "none" } });
      echoes[how] = { text: textOf(answer), finish: answer.stop_reason };
    }
    const call = whole.content.at(-1);
    return { echoes, call_id: call.id, name: call.name, arguments: call.input };
  },
  "MCP tools": async () => {
    const tools = SCENARIO.mcp_tools.map(({ name, description, inputSchema }) => ({ name, description, input_schema: inputSchema }));
    const answer = await client.messages.create({ ...plain, tools });
    return { finish: answer.stop_reason, usage: counts(answer.usage) };
  },
  structured: async () => ({ value: Tree.parse((await formed()).parsed_output) }),
  "structured + tools": async () => {
    const answer = await formed({ tools: [weather] });
    const call = answer.content.find((block) => block.type === "tool_use");
    return call ? { name: call.name } : { value: answer.parsed_output };
  },
  errors: async () => {
    const stranger = client.withOptions({ defaultHeaders: { "X-Api-Key": "eg-nobody" } });
    const at = (given) => () => client.messages.create({ ...plain, ...given });
    return {
      classes: {
        401: await raised("AuthenticationError", () => stranger.messages.create(plain)),
        404: await raised("NotFoundError", at({ model: "gpt-99" })),
        400: await raised("BadRequestError", at({ max_tokens: -1 })),
        context: await raised("BadRequestError", at({ messages: [{ role: "user", content: LONG_TEXT }] })),
      },
    };
  },
};

const own = "speaks Anthropic's protocol: see messages";
const none = "Anthropic's protocol has none";
await run(["@anthropic-ai/sdk"], features, {
  chat: own, stream: own, "usage in stream": own, "forced tool": own, "tool loop": own,
  responses: own, "responses: tool loop": own, "responses: structured": own,
  "embeddings: texts": none, "embeddings: base64": none, "embeddings: tokens": none, completions: none,
  batches: "Anthropic's own batches (/v1/messages/batches), which Evergreen does not have",
});
