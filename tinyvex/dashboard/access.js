// The credential of this tab: a one-time code from the URL fragment, then a token that only this tab has.

const KEY = "tinyvex-dashboard-token";
const CODE_PREFIX = "dashboard:";

/** Return the code in the URL and remove it from there; null if there is none. */
export function takeCode() {
  const code = /^#code=(.+)$/.exec(location.hash)?.[1] ?? null;
  if (code !== null) history.replaceState(null, "", location.pathname);
  return code;
}

/** The credential to send to the server. */
export class Access {
  constructor(code) {
    this.#code = code;
  }

  #code;

  /** The code if there is one, else the stored token; null if this tab has neither. */
  get token() {
    return this.#code !== null ? CODE_PREFIX + this.#code : sessionStorage.getItem(KEY);
  }

  /** Whether the credential is a code. */
  get isByLink() {
    return this.#code !== null;
  }

  /** Store the token of an accepted connection, if the server issued one. */
  welcome({ token }) {
    if (token !== undefined && token !== null) sessionStorage.setItem(KEY, token);
    this.#code = null;
  }

  /** Discard the refused credential; return whether another one is left to try. */
  refused() {
    if (this.#code === null) sessionStorage.removeItem(KEY);
    this.#code = null;
    return this.token !== null;
  }
}
