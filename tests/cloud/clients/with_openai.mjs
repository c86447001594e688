// Drives the scenario with the official JavaScript client, given an address and a key and nothing else.
// Like the other drivers it writes one JSON object per step to standard output and judges nothing (see driver.py).
import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import OpenAI from "openai";

const { API_URL, API_KEY, MODEL } = process.env;
const ofMessage = (choice) => choice.message.content ?? "";
const ofDelta = (choice) => choice.delta.content ?? "";
const ofText = (choice) => choice.text ?? "";

const calls = {
  models: async (client) => {
    const models = [];
    for await (const model of client.models.list()) models.push(model.id);
    return { status: 200, models };
  },
  chat: (client, step) => generate(step, (r) => client.chat.completions.create(r), ofMessage, ofDelta),
  completion: (client, step) => generate(step, (r) => client.completions.create(r), ofText, ofText),
  embeddings: async (client, step) => ({
    status: 200,
    vectors: (await client.embeddings.create(step.request)).data.length,
  }),
  // Not one of OpenAI's calls: the client's door to any path.
  feedback: async (client, step) => ({
    status: 201,
    id: (await client.post("/feedback", { body: step.request })).id,
  }),
};

async function generate(step, create, ofWhole, ofPiece) {
  if (!step.stream) {
    const whole = await create(step.request);
    const choice = whole.choices[0];
    const { message } = choice;
    const calls = (message?.tool_calls ?? []).map((call) => [call.id, call.function.name, call.function.arguments]);
    return { ...answered(whole.id, [ofWhole(choice)], choice.finish_reason, whole.usage), answer: message, calls };
  }
  const pieces = [];
  let [id, finish, usage] = ["", null, null];
  const options = { stream: true, stream_options: { include_usage: true } };
  for await (const chunk of await create({ ...step.request, ...options })) {
    id = chunk.id;
    usage = chunk.usage ?? usage;
    for (const choice of chunk.choices) {
      finish = choice.finish_reason ?? finish;
      if (ofPiece(choice)) pieces.push(ofPiece(choice));
    }
  }
  return answered(id, pieces, finish, usage);
}

function answered(id, pieces, finish, usage) {
  const counts = usage && [usage.prompt_tokens, usage.completion_tokens, usage.total_tokens];
  return { status: 200, id, text: pieces.join(""), pieces: pieces.length, finish, usage: counts };
}

async function told(step) {
  const client = new OpenAI({ baseURL: API_URL, apiKey: step.key ?? API_KEY, maxRetries: 0, timeout: 120_000 });
  try {
    return await calls[step.call](client, step);
  } catch (error) {
    if (!(error instanceof OpenAI.APIError) || error.status === undefined) throw error;
    const { type, code, param, message } = error.error ?? {};
    return { status: error.status, type, code, param, message };
  }
}

const scenario = JSON.parse(await readFile(process.argv[2], "utf8"));
const seen = {};
const messages = {};
for (const step of scenario.steps) {
  const request = { ...step.request };
  if (!["models", "feedback"].includes(step.call)) request.model ??= MODEL;
  if (step.of) request.request_id = seen[step.of].id;
  if (step.echo) {
    const results = seen[step.echo].calls.map(([id]) => ({ role: "tool", tool_call_id: id, content: "12 C" }));
    request.messages = [...messages[step.echo], ...results];
  }
  const deadline = Date.now() + 1000 * (step.patience_seconds ?? 0);
  let reported = await told({ ...step, request });
  while (reported.status === 404 && Date.now() < deadline) {
    await sleep(200);
    reported = await told({ ...step, request });
  }
  const { answer, ...rest } = reported;
  if (answer) messages[step.name] = [...request.messages, answer];
  seen[step.name] = rest;
  console.log(JSON.stringify({ name: step.name, ...rest }));
}
