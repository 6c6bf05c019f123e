// Triplit's server on loopback, as `createServer` of @triplit/server builds it, except for the host and a silent log.
// Usage: node triplit.mjs FOLDER_OF_NODE_MODULES PORT SECRET; LOCAL_DATABASE_URL names the file.
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [packages, port, jwtSecret] = process.argv.slice(2);
const require = createRequire(join(packages, "package.json"));
const load = (name) => import(pathToFileURL(require.resolve(name)));

const { createTriplitHonoServer } = await load("@triplit/server/hono");
const { createTriplitStorageProvider } = await load("@triplit/server/storage");
const { createNodeWebSocket } = await load("@hono/node-ws");
const { serve } = await load("@hono/node-server");
const { Hono } = await load("hono");

const storage = await createTriplitStorageProvider("lmdb");
const base = new Hono();
const { injectWebSocket, upgradeWebSocket } = createNodeWebSocket({ app: base });
const options = { storage, dbOptions: {}, jwtSecret, projectId: "bench", logHandler: { log() {} } };
const app = await createTriplitHonoServer(options, upgradeWebSocket, console.error, base);
injectWebSocket(serve({ fetch: app.fetch, port: Number(port), hostname: "127.0.0.1" }));
