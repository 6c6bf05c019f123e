// What the server tells about itself, asked for once a second while somebody can see it.

const INTERVAL_MS = 1_000;
const HIDDEN_MS = 10_000;
const RECORDS_MAX = 1_000;
const SAMPLES_MAX = 300;

/** The figures of one server's run, and who wants to hear of them. */
export class Figures {
  constructor(token, onRefused) {
    this.#token = token;
    this.#onRefused = onRefused;
    document.addEventListener("visibilitychange", () => document.hidden || this.#ask());
  }

  #token;
  #onRefused;
  #timer = null;
  #isRunning = false;
  #isAsking = false;
  #number = 0;
  #listeners = new Set();
  records = [];
  samples = [];
  latest = null;

  /** Tell `listener` of every answer, and of the last one at once; what is returned ends it. */
  listen(listener) {
    this.#listeners.add(listener);
    if (this.latest !== null) listener(this);
    return () => this.#listeners.delete(listener);
  }

  /** What the app's code says, as it is served now: its tables' fields and indexes, its functions' docstrings. */
  async app() {
    const known = await this.#get("app").catch(() => null);
    return known ?? { tables: {}, functions: {} };
  }

  /** Begin to ask, or go on. */
  start() {
    this.#isRunning = true;
    this.#ask();
  }

  /** Ask no more until `start`. */
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
      if (latest !== null) this.#take(latest);
    } catch {
      // The connection is watched elsewhere: it says that the server is away.
    } finally {
      this.#isAsking = false;
      if (this.#isRunning) this.#timer = setTimeout(() => this.#ask(), document.hidden ? HIDDEN_MS : INTERVAL_MS);
    }
  }

  async #get(what) {
    const answer = await fetch(`/_dashboard/${what}`, { headers: { Authorization: `Bearer ${this.#token()}` } });
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
