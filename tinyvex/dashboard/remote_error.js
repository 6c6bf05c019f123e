// Errors that the server told, and one that it could not.

/** An error as the server told it: `data` has its name, whose fault it is, whether to retry. */
export class RemoteError extends Error {
  constructor({ code, message, data }) {
    super(message);
    this.code = code;
    this.data = data ?? {};
    this.name = this.data.name ?? "Error";
  }
}

/** What is known of a call whose connection was lost. */
export function lost() {
  const message = "the connection was lost before the answer came; whether it ran is not known";
  return new RemoteError({ message, data: { name: "ConnectionLost", fault: "network", retry: "never" } });
}
