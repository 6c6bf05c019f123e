// The server's figures, polled once a second while the page is visible.

const INTERVAL_MS = 1_000;
const HIDDEN_MS = 10_000;
const FAILURES_SUSPECTED = 3;
const RECORDS_MAX = 1_000;
const SAMPLES_MAX = 300;

/** The figures of one server process, and their listeners. */
export class Figures {
  /** `onRefused` is called when the token is no longer valid, `onAway` when the server does not answer. */
  constructor(token, onRefused, onAway) {
    this.#token = token;
    this.#onRefused = onRefused;
    this.#onAway = onAway;
    document.addEventListener("visibilitychange", () => document.hidden || this.#ask());
  }

  #token;
  #onRefused;
  #onAway;
  #timer = null;
  #isRunning = false;
  #isAsking = false;
  #failures = 0; // consecutive
  #number = 0;
  #listeners = new Set();
  records = [];
  samples = [];
  latest = null;

  /** Call `listener` with every answer, starting with the last one. Returns a function that removes it. */
  listen(listener) {
    this.#listeners.add(listener);
    if (this.latest !== null) listener(this);
    return () => this.#listeners.delete(listener);
  }

  /** Fetch the declarations of the served app: its tables' fields and indexes, its functions' docstrings. */
  async app() {
    const known = await this.#get("app").catch(() => null);
    return known ?? { tables: {}, functions: {} };
  }

  /** Start or resume polling. */
  start() {
    this.#isRunning = true;
    this.#ask();
  }

  /** Stop polling until `start`. */
  stop() {
    this.#isRunning = false;
    clearTimeout(this.#timer);
  }

  async #ask() {
    if (!this.#isRunning || this.#isAsking) return;
    clearTimeout(this.#timer);
    this.#isAsking = true;
    try {
      const latest = await this.#get(`state?after=${this.#number}`);
      this.#failures = 0;
      if (latest !== null) this.#take(latest);
    } catch {
      // A socket can stay open long after its peer is gone.
      if (++this.#failures === FAILURES_SUSPECTED) this.#onAway();
    } finally {
      this.#isAsking = false;
      if (this.#isRunning) this.#timer = setTimeout(() => this.#ask(), document.hidden ? HIDDEN_MS : INTERVAL_MS);
    }
  }

  async #get(path) {
    const answer = await fetch(`/_dashboard/${path}`, { headers: { Authorization: `Bearer ${this.#token()}` } });
    if (answer.status === 401) this.#onRefused();
    return answer.ok ? answer.json() : null;
  }

  #take(latest) {
    const { number, records, samples } = latest.activity;
    this.#number = number;
    this.records = [...this.records, ...records].slice(-RECORDS_MAX);
    this.samples = [...this.samples, ...samples].slice(-SAMPLES_MAX);
    this.latest = latest;
    for (const listener of [...this.#listeners]) listener(this);
  }
}
