// Prints the licence of every package that is in the bundle, given esbuild's metafile.
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";

const inputs = Object.keys(JSON.parse(readFileSync(process.argv[2], "utf8")).inputs);
const folders = new Set();
for (const input of inputs) {
  const match = input.match(/^(?:.*\/)?node_modules\/(?:@[^/]+\/)?[^/]+(?=\/)/);
  if (match) folders.add(match[0]);
}
console.log("The playground contains these packages. Their licences follow.\n");
const described = [...folders].map((folder) => ({ folder, ...JSON.parse(readFileSync(join(folder, "package.json"), "utf8")) }));
described.sort((a, b) => a.name.localeCompare(b.name));
for (const { name, version, license } of described) console.log(`${name} ${version}: ${license}`);
const texts = new Map();
for (const { folder, name, version } of described) {
  const file = existsSync(folder) && readdirSync(folder).find((entry) => /^licen[cs]e/i.test(entry));
  if (!file) continue;
  const text = readFileSync(join(folder, file), "utf8").trim();
  texts.set(text, [...(texts.get(text) ?? []), `${name} ${version}`]);
}
for (const [text, names] of texts) console.log(`\n${"-".repeat(80)}\n${names.join(", ")}\n\n${text}`);
