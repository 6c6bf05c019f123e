// Applies each document's patches, one after another, with fast-json-patch; prints what comes of them, as JSON.
import { readFileSync } from "node:fs";
import fastJsonPatch from "fast-json-patch";

const histories = JSON.parse(readFileSync(0, "utf8"));
const states = histories.map(({ document, patches }) =>
  patches.map((patch) => {
    document = fastJsonPatch.applyPatch(document, patch, true, false).newDocument;
    return structuredClone(document);
  }),
);
process.stdout.write(JSON.stringify(states));
