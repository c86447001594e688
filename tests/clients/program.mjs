// What the JavaScript programs share: one function for each feature, one JSON object on standard output for each.
// The same words as tests/clients/program.py; nothing is judged here.
import { readFileSync } from "node:fs";

export const { API_URL, API_KEY, MODEL, EMBEDDING_MODEL } = process.env;
const read = (name) => JSON.parse(readFileSync(new URL(name, import.meta.url), "utf8"));
export const SCENARIO = read("scenario.json");
export const MESSAGES = [
  { role: "system", content: SCENARIO.system },
  { role: "user", content: SCENARIO.question },
];
export const LONG_TEXT = "evergreen ".repeat(20_000);
export const PATIENCE = 300_000;

/** What the client does not offer, or does not let be seen: no matter of the server's. */
export class ClientLimitError extends Error {}

/** Goes through the features; `packages` are the client's own, `limits` why it has nothing for a feature. */
export async function run(packages, features, limits = {}) {
  const locked = read("package-lock.json").packages;
  const versions = Object.fromEntries(packages.map((name) => [name, locked[`node_modules/${name}`].version]));
  console.log(JSON.stringify({ versions }));
  for (const [feature, limit] of Object.entries(limits)) console.log(JSON.stringify({ feature, limit }));
  for (const [feature, tell] of Object.entries(features)) {
    if (process.argv.length > 2 && !process.argv.includes(feature)) continue;
    let seen;
    try {
      seen = await tell();
    } catch (error) {
      console.error(feature, error);
      seen = error instanceof ClientLimitError ? { limit: error.message } : { failed: `${error.name}: ${error.message}` };
    }
    console.log(JSON.stringify({ feature, ...seen }));
  }
}

/** The classes of what a call raises, most special first (none where it raises nothing), beside the wanted one. */
export async function raised(wanted, call) {
  try {
    await call();
  } catch (error) {
    const classes = [];
    for (let kind = error.constructor; kind?.name; kind = Object.getPrototypeOf(kind)) classes.push(kind.name);
    return [[...classes, error.name], wanted];
  }
  return [[], wanted];
}

/** The vector that `encoding_format: base64` holds. */
export function floats(encoded) {
  const data = Buffer.from(encoded, "base64");
  return Array.from({ length: data.length / 4 }, (_, place) => data.readFloatLE(4 * place));
}
