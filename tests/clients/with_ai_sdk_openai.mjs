// Vercel's AI SDK with its providers for OpenAI (chat, and its default, Responses) and for Anthropic.
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import * as sdk from "./ai_sdk.mjs";
import { API_KEY, API_URL, EMBEDDING_MODEL, MODEL, run } from "./program.mjs";

const provider = (apiKey = API_KEY) => createOpenAI({ baseURL: API_URL, apiKey });
const anthropic = createAnthropic({ baseURL: API_URL, apiKey: API_KEY })(MODEL);
const model = provider().chat(MODEL);
await run(["ai", "@ai-sdk/openai", "@ai-sdk/anthropic"], {
  ...sdk.chatFeatures(model),
  "embeddings: texts": () => sdk.embedded(provider().embedding(EMBEDDING_MODEL)),
  responses: () => sdk.protocolAnswer(provider()(MODEL)),
  "responses: tool loop": () => sdk.loop(provider()(MODEL)),
  "responses: structured": () => sdk.formed(provider()(MODEL)),
  messages: () => sdk.protocolAnswer(anthropic),
  "messages: tool loop": () => sdk.loop(anthropic),
  completions: () => sdk.completed(provider().completion(MODEL)),
  errors: () => sdk.errors(model, provider("eg-nobody").chat(MODEL), provider().chat("gpt-99")),
}, {
  "embeddings: base64": "asks for floats only",
  "embeddings: tokens": "sends texts only",
  batches: "its batches are an experiment for OpenAI's own service",
});
