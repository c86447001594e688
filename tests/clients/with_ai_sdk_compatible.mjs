// Vercel's AI SDK with its provider for servers that speak OpenAI's protocol.
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import * as sdk from "./ai_sdk.mjs";
import { API_KEY, API_URL, EMBEDDING_MODEL, MODEL, run } from "./program.mjs";

const provider = (apiKey = API_KEY) => createOpenAICompatible({
  name: "evergreen", baseURL: API_URL, apiKey, includeUsage: true, supportsStructuredOutputs: true,
});
const model = provider().chatModel(MODEL);
const chatsOnly = "this provider chats only";
await run(["ai", "@ai-sdk/openai-compatible"], {
  ...sdk.chatFeatures(model),
  "embeddings: texts": () => sdk.embedded(provider().embeddingModel(EMBEDDING_MODEL)),
  completions: () => sdk.completed(provider().completionModel(MODEL)),
  errors: () => sdk.errors(model, provider("eg-nobody").chatModel(MODEL), provider().chatModel("gpt-99")),
}, {
  "embeddings: base64": "asks for floats only",
  "embeddings: tokens": "sends texts only",
  responses: chatsOnly, "responses: tool loop": chatsOnly, "responses: structured": chatsOnly,
  messages: chatsOnly, "messages: tool loop": chatsOnly,
  batches: "has no batches for this provider",
});
