// Errors that the server reported, and the error of a lost connection.

/** An error reported by the server: `data` has its name, the party at fault and the retry hint. */
export class RemoteError extends Error {
  constructor({ code, message, data }) {
    super(message);
    this.code = code;
    this.data = data ?? {};
    this.name = this.data.name ?? "Error";
  }
}

/** Create the error of a call whose connection was lost. */
export function lost() {
  const message = "the connection was lost before the answer arrived; the call may or may not have run";
  return new RemoteError({ message, data: { name: "ConnectionLost", fault: "network", retry: "never" } });
}
