// A client of the sync protocol: live queries and calls over one WebSocket that reconnects automatically.
// The numbers in comments refer to rules of protocol/SPEC.md.

import { RemoteError, lost } from "./remote_error.js";

const PROTOCOL_VERSION = 1;
const FINAL = ["SessionReplaced", "Unauthenticated", "Forbidden", "SessionIdentity", "UnsupportedVersion", "ObservedTsAhead"];
const SILENCE_MS = 45_000;
const SUSPECT_MS = 2_000;
const PAUSE_MIN_MS = 300;
const PAUSE_MAX_MS = 10_000;

/** Return 32 unguessable hexadecimal digits; `crypto.randomUUID` is unavailable on insecure origins. */
function randomName() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * One session with a server.
 *
 * `token` is a function that returns the credential to send; `onState(state)` receives
 * `{kind: "connecting"}`, `{kind: "open", welcome}`, `{kind: "lost", retryAt}` and, finally, `{kind: "refused", error}`.
 * With `actingAs`, functions see these claims as `ctx.auth`.
 */
export class Client {
  constructor(url, token, onState, actingAs = null) {
    this.sessionId = randomName();
    this.#url = url;
    this.#token = token;
    this.#onState = onState;
    this.#actingAs = actingAs;
    this.#silence = setInterval(() => this.#watchSilence(), 5_000);
  }

  #url;
  #token;
  #onState;
  #actingAs;
  #silence;
  refusal = null;
  #socket = null;
  #isOpen = false;
  #failures = 0;
  #connections = 0;
  #closeReason = null;
  #retryAfterMs = 0;
  #retryTimer = null;
  #heardAt = 0;
  #ids = 0;
  #answers = new Map(); // JSON-RPC id -> {resolve, reject}, of this socket
  #mutations = new Map(); // requestId -> {params, resolve, reject, ts, result}, of the session
  #requests = 0;
  #queries = new Map(); // queryId -> {path, args, listener, staged}
  #lastQuery = 0;
  #toAdd = new Set();
  #toRemove = new Set();
  #querySet = 0;
  #resumed = 0; // the first query set version that restores all queries on this socket
  #flushing = false;
  #version = null;
  #chunks = [];
  #epoch = null;
  #observed = 0;

  /** Open the socket now. */
  connect() {
    clearTimeout(this.#retryTimer);
    this.#onState({ kind: "connecting" });
    const socket = (this.#socket = new WebSocket(this.#url));
    this.#heardAt = performance.now();
    socket.onopen = () => this.#greet();
    socket.onmessage = ({ data }) => socket === this.#socket && this.#receive(data);
    socket.onclose = ({ code, reason }) => socket === this.#socket && this.#closed(reason || `closed with ${code}`);
  }

  /** Open another client that acts as these claims: a session belongs to one identity (S-86). */
  static actingAs(client, claims) {
    return new Promise((resolve, reject) => {
      const onState = ({ kind, error }) => {
        if (kind === "open") resolve(other);
        else if (kind === "refused") reject(error);
      };
      const other = new Client(client.#url, client.#token, onState, claims);
      other.connect();
    });
  }

  /** Reconnect because the server does not answer HTTP, unless this socket received a message just now. */
  suspect() {
    if (this.#isOpen && performance.now() - this.#heardAt > SUSPECT_MS) this.#restart("the server does not answer");
  }

  /** Close the connection permanently. */
  close() {
    this.refusal = lost();
    clearInterval(this.#silence);
    clearTimeout(this.#retryTimer);
    this.#restart("closed");
  }

  /** Subscribe to a query: `listener` receives `{value}` or `{error}`, with `logLines`. Returns a function that unsubscribes. */
  watch(path, args, listener) {
    const id = this.#lastQuery++;
    this.#queries.set(id, { path, args, listener, staged: null });
    this.#toAdd.add(id);
    this.#flushLater();
    return () => {
      if (!this.#queries.delete(id)) return;
      if (!this.#toAdd.delete(id)) this.#toRemove.add(id);
      this.#flushLater();
    };
  }

  /** Run a function once; the answer has `value`, `logLines` and, except for actions, `ts`. */
  call(kind, path, args) {
    if (kind === "mutation") {
      const requestId = this.#requests++;
      const params = { requestId, udfPath: path, args };
      return new Promise((resolve, reject) => {
        this.#mutations.set(requestId, { params, resolve, reject, ts: null, result: null });
        if (this.#isOpen) this.#sendMutation(requestId);
      });
    }
    if (!this.#isOpen) return Promise.reject(lost());
    const params = kind === "action" ? { requestId: this.#requests++, udfPath: path, args } : { udfPath: path, args };
    return this.#request(kind, params);
  }

  // Connecting.

  async #greet() {
    const params = {
      protocolVersion: PROTOCOL_VERSION,
      sessionId: this.sessionId,
      connectionCount: this.#connections++,
      lastCloseReason: this.#closeReason,
      clientTs: Date.now(),
      maxObservedTs: this.#observed,
      observedEpoch: this.#epoch,
      capabilities: ["chunk"],
      token: this.#token(),
    };
    let welcome;
    try {
      welcome = await this.#request("connect", params);
    } catch {
      return; // the following fatalError has the reason, and the socket closes
    }
    this.#startSocket(welcome);
    if (this.#actingAs !== null && !(await this.#authenticate())) return;
    this.#isOpen = true;
    this.#onState({ kind: "open", welcome });
    this.#flush();
    this.#resumed = this.#querySet;
    for (const requestId of this.#mutations.keys()) this.#sendMutation(requestId); // S-47
  }

  #startSocket(welcome) {
    if (this.#epoch !== null && welcome.epoch !== this.#epoch) {
      this.#observed = 0; // S-16
      for (const [requestId, { ts }] of this.#mutations) if (ts !== null) this.#complete(requestId);
    }
    this.#epoch = welcome.epoch;
    this.#version = { querySet: 0, identity: 0, ts: 0 };
    this.#querySet = 0;
    this.#chunks = [];
    this.#toRemove.clear();
    for (const id of this.#queries.keys()) this.#toAdd.add(id);
    this.#failures = 0;
    this.#retryAfterMs = 0;
  }

  async #authenticate() {
    const params = { baseVersion: 0, kind: "admin", token: this.#token(), actingAs: this.#actingAs };
    try {
      await this.#request("authenticate", params);
      return true;
    } catch (error) {
      if (error.name !== "ConnectionLost") this.refusal = error;
      this.#restart(error.message);
      return false;
    }
  }

  #closed(reason) {
    this.#socket = null;
    this.#isOpen = false;
    this.#closeReason ??= reason;
    for (const { reject } of this.#answers.values()) reject(this.refusal ?? lost());
    this.#answers.clear();
    for (const query of this.#queries.values()) query.staged = null;
    if (this.refusal !== null) {
      for (const { reject } of this.#mutations.values()) reject(this.refusal);
      this.#mutations.clear();
      this.#onState({ kind: "refused", error: this.refusal });
      return;
    }
    const grown = Math.min(PAUSE_MAX_MS, PAUSE_MIN_MS * 2 ** this.#failures++);
    const pause = Math.max(this.#retryAfterMs, grown * (0.75 + Math.random() / 2));
    this.#retryTimer = setTimeout(() => this.connect(), pause);
    this.#onState({ kind: "lost", retryAt: Date.now() + pause });
  }

  #watchSilence() {
    if (this.#socket !== null && performance.now() - this.#heardAt > SILENCE_MS) this.#restart("the server is silent");
  }

  /** Drop staged results and reconnect (S-31). */
  #restart(reason) {
    const socket = this.#socket;
    this.#closeReason = reason;
    if (socket === null) return;
    socket.close();
    this.#closed(reason);
  }

  // Messages.

  #request(method, params) {
    const id = ++this.#ids;
    return new Promise((resolve, reject) => {
      this.#answers.set(id, { resolve, reject });
      this.#socket.send(JSON.stringify({ jsonrpc: "2.0", id, method: `tinyvex/${method}`, params }));
    });
  }

  #receive(text) {
    this.#heardAt = performance.now();
    const { id, method, params, result, error } = JSON.parse(text);
    if (method === undefined) {
      const answer = this.#answers.get(id);
      this.#answers.delete(id);
      if (error) answer?.reject(new RemoteError(error));
      else answer?.resolve(result);
    } else if (method === "tinyvex/transition") this.#transition(params);
    else if (method === "tinyvex/transitionChunk") this.#chunk(params);
    else if (method === "tinyvex/fatalError") this.#fatal(params.error);
  }

  #fatal(error) {
    this.#closeReason = `${error.data?.name}: ${error.message}`;
    this.#retryAfterMs = error.data?.retryAfterMs ?? 0;
    if (FINAL.includes(error.data?.name)) this.refusal = new RemoteError(error); // S-18
  }

  #sendMutation(requestId) {
    const mutation = this.#mutations.get(requestId);
    const acknowledgedBelow = this.#mutations.keys().next().value; // S-91: in order of their ids, and all unfinished
    this.#request("mutation", { ...mutation.params, acknowledgedBelow }).then(
      (result) => {
        mutation.result = result;
        mutation.ts = result.ts;
        if (this.#version !== null && this.#version.ts >= result.ts) this.#complete(requestId);
      },
      (error) => {
        if (error.name === "ConnectionLost") return; // it is resent after the reconnect
        this.#mutations.delete(requestId);
        mutation.reject(error);
      },
    );
  }

  #complete(requestId) {
    const mutation = this.#mutations.get(requestId);
    this.#mutations.delete(requestId);
    mutation?.resolve(mutation.result);
  }

  // The query set.

  #flushLater() {
    if (this.#flushing) return;
    this.#flushing = true;
    queueMicrotask(() => {
      this.#flushing = false;
      if (this.#isOpen) this.#flush();
    });
  }

  #flush() {
    const modifications = [...this.#toRemove].map((queryId) => ({ type: "Remove", queryId }));
    for (const queryId of this.#toAdd) {
      const { path, args } = this.#queries.get(queryId);
      modifications.push({ type: "Add", queryId, udfPath: path, args });
    }
    this.#toRemove.clear();
    this.#toAdd.clear();
    if (modifications.length === 0) return;
    const baseVersion = this.#querySet++;
    this.#request("modifyQuerySet", { baseVersion, newVersion: this.#querySet, modifications }).catch((error) =>
      error.name === "ConnectionLost" ? null : this.#restart(error.message),
    );
  }

  // Transitions.

  #chunk({ partNumber, partsTotal, chunk }) {
    if (partNumber !== this.#chunks.length) return this.#restart("a chunk of a transition is missing"); // S-81
    this.#chunks.push(chunk);
    if (this.#chunks.length < partsTotal) return;
    const { params } = JSON.parse(this.#chunks.join(""));
    this.#chunks = [];
    this.#transition(params);
  }

  #transition({ startVersion, endVersion, modifications }) {
    const known = this.#version;
    const parts = ["querySet", "identity", "ts"];
    if (parts.some((part) => startVersion[part] !== known[part] || endVersion[part] < known[part]))
      return this.#restart("a transition does not continue the previous one"); // S-29, S-30
    for (const modification of modifications) {
      const query = this.#queries.get(modification.queryId);
      const { type, value, error, logLines } = modification;
      if (type === "QueryUpdated" && modification.patch === undefined) {
        if (query) query.staged = { value, logLines: logLines ?? [] };
      } else if (type === "QueryFailed") {
        if (query) query.staged = { error: new RemoteError(error), logLines: logLines ?? [] };
      } else if (type !== "QueryRemoved") return this.#restart(`unknown modification ${type}`); // S-8; patches were declined
    }
    this.#version = endVersion;
    if (endVersion.ts < this.#observed || endVersion.querySet < this.#resumed) return; // S-37
    this.#observed = endVersion.ts;
    for (const query of [...this.#queries.values()]) {
      const { staged } = query;
      query.staged = null;
      if (staged !== null) query.listener(staged);
    }
    for (const [requestId, { ts }] of this.#mutations) if (ts !== null && ts <= endVersion.ts) this.#complete(requestId); // S-46
  }
}
