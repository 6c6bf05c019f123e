// How this tab was let in: a code in the address's fragment, used once, then a token that only this tab has.

const KEY = "tinyvex-dashboard-token";
const CODE_PREFIX = "dashboard:";

/** The code that the address had, which it has no more; null where there was none. */
export function takeCode() {
  const code = /^#code=(.+)$/.exec(location.hash)?.[1] ?? null;
  if (code !== null) history.replaceState(null, "", location.pathname);
  return code;
}

/** What to show the server, and what it gave. */
export class Access {
  constructor(code) {
    this.#code = code;
  }

  #code;

  /** A token, or else the code for one; null where this tab has neither. */
  get token() {
    return this.#code !== null ? CODE_PREFIX + this.#code : sessionStorage.getItem(KEY);
  }

  /** Whether what is shown is a code. */
  get isByLink() {
    return this.#code !== null;
  }

  /** The server let this tab in, perhaps with a token of its own. */
  welcome({ token }) {
    if (token !== undefined && token !== null) sessionStorage.setItem(KEY, token);
    this.#code = null;
  }

  /** What was shown is good for nothing: whether there is something else to show. */
  refused() {
    if (this.#code === null) sessionStorage.removeItem(KEY);
    this.#code = null;
    return this.token !== null;
  }
}
