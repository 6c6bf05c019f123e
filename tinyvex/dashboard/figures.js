// What the server tells about itself, asked for once a second while somebody can see it.

const INTERVAL_MS = 1_000;
const HIDDEN_MS = 10_000;
const FAILURES_DOUBTED = 3;
const RECORDS_MAX = 1_000;
const SAMPLES_MAX = 300;

/** The figures of one server's run, and who wants to hear of them. */
export class Figures {
  /** `onRefused` hears that the token is good no more, `onAway` that the server does not answer. */
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
  #failures = 0; // one after another
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
      this.#failures = 0;
      if (latest !== null) this.#take(latest);
    } catch {
      // A socket can stay open for long though nobody is at its other end.
      if (++this.#failures === FAILURES_DOUBTED) this.#onAway();
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
