// A page's websocket: reconnects by itself, and asks for a snapshot when a frame is missing.

const FIRST_WAIT = 500;
const LONGEST_WAIT = 15_000;
// A dead connection looks like a silent device, so after a silence the page asks for a snapshot.
const ASK_AFTER = 20_000;
const GIVE_UP_AFTER = 35_000;
const FINAL = {
  4401: "Log in again to see live data.",
  4403: "You do not have permission to watch this device.",
  4404: "This device was deleted, or you no longer have access to it.",
  4429: "You have too many live pages open. Close some and reload this one.",
};

export class Live {
  // handlers: {snapshot, metrics, connectivity, details, commands, fleet} take a frame; state(state, text) is told
  // "connecting", "live", "broken" or "ended".
  constructor(path, handlers) {
    this.url = `${location.protocol === "https:" ? "wss:" : "ws:"}//${location.host}${path}`;
    this.handlers = handlers;
    this.failures = 0;
    this.ended = false;
    this.connect();
    setInterval(() => this.watch(), 5000);
    addEventListener("online", () => this.hurry());
    document.addEventListener("visibilitychange", () => document.hidden || this.hurry());
  }

  get connected() {
    return this.socket?.readyState === WebSocket.OPEN;
  }

  connect() {
    clearTimeout(this.waiting);
    this.waiting = null;
    this.sequence = null;
    const socket = new WebSocket(this.url);
    this.socket = socket;
    this.heard = Date.now();
    socket.onmessage = (event) => this.receive(JSON.parse(event.data));
    socket.onclose = (event) => socket === this.socket && this.closed(event.code);
  }

  closed(code) {
    if (code in FINAL) {
      this.ended = true;
      this.handlers.state("ended", FINAL[code]);
      return;
    }
    this.handlers.state("broken", "reconnecting…");
    const wait = Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** this.failures);
    this.failures += 1;
    this.waiting = setTimeout(() => this.connect(), wait * (0.5 + Math.random() / 2));
  }

  hurry() {
    if (this.waiting && !this.ended) this.connect();
  }

  watch() {
    const silence = Date.now() - this.heard;
    if (this.ended || this.waiting) return;
    if (silence > GIVE_UP_AFTER) {
      // close() waits for an answer that never comes on a dead connection.
      const dead = this.socket;
      this.socket = null;
      dead.close();
      this.closed(1006);
    } else if (silence > ASK_AFTER) {
      this.ask();
    }
  }

  ask() {
    if (this.connected) this.socket.send(JSON.stringify({ type: "snapshot" }));
  }

  receive(frame) {
    this.heard = Date.now();
    if (frame.type === "snapshot") {
      this.failures = 0;
      this.sequence = frame.seq ?? null;
      this.handlers.state("live", "live");
    } else if (frame.type === "metrics") {
      if (this.sequence !== null && frame.seq > this.sequence + 1) this.ask();
      this.sequence = frame.seq;
    }
    this.handlers[frame.type]?.(frame);
  }
}
