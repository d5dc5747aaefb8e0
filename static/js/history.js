// The list of commands, kept up to date. The server renders the rows; a frame only says which of them
// to fetch again.

const FLUSH_AFTER = 100;
// Above this number it is quicker to fetch the whole list.
const MOST_SINGLE_ROWS = 5;
const OPEN_STATES = ["queued", "sent", "delivered"];

export class History {
  constructor(box, url) {
    this.box = box;
    this.url = url;
    this.dirty = new Set();
    this.busy = false;
  }

  row(uuid) {
    return document.getElementById(`command-${uuid}`);
  }

  isOpen(uuid) {
    return this.row(uuid)?.querySelector("details").open ?? true;
  }

  hasEnded(uuid) {
    const row = this.row(uuid);
    return row !== null && !OPEN_STATES.includes(row.dataset.state);
  }

  get onFirstPage() {
    return this.box.querySelector("[data-page]")?.dataset.page === "1";
  }

  mark(uuid) {
    this.dirty.add(uuid);
    if (!this.busy && !this.timer) this.timer = setTimeout(() => this.flush(), FLUSH_AFTER);
  }

  // A frame names commands that have news, also where their state is still the same.
  markAll(commands) {
    for (const { command_id: uuid } of commands) if (this.row(uuid) || this.onFirstPage) this.mark(uuid);
  }

  // A snapshot has the newest commands, with news or without.
  compare(commands) {
    for (const { command_id: uuid, state } of commands) {
      const row = this.row(uuid);
      // One that was sent may have been sent again, at another time.
      const isNews = row?.dataset.state !== state || state === "sent";
      if (row ? isNews : this.onFirstPage) this.mark(uuid);
    }
  }

  markOpen() {
    for (const row of this.box.querySelectorAll("[data-command]")) {
      if (OPEN_STATES.includes(row.dataset.state)) this.mark(row.dataset.command);
    }
  }

  async flush() {
    this.timer = null;
    this.busy = true;
    const uuids = [...this.dirty];
    this.dirty.clear();
    try {
      const news = uuids.filter((uuid) => !this.row(uuid));
      if (uuids.length > MOST_SINGLE_ROWS || news.length > 1) await this.fetchList();
      else for (const uuid of uuids) await this.fetchRow(uuid, this.isOpen(uuid));
    } finally {
      this.busy = false;
      if (this.dirty.size) this.timer = setTimeout(() => this.flush(), FLUSH_AFTER);
    }
  }

  async fetchRow(uuid, open) {
    const row = this.row(uuid);
    if (row) {
      await htmx.ajax("GET", row.dataset.url, { source: row, target: row, swap: "outerHTML" });
    } else if (this.onFirstPage) {
      const target = this.box.querySelector("ol");
      await htmx.ajax("GET", `${this.url}${uuid}/`, { source: this.box, target, swap: "afterbegin" });
    }
    const fetched = this.row(uuid);
    if (fetched) fetched.querySelector("details").open = open;
  }

  async fetchList() {
    const rows = [...this.box.querySelectorAll("[data-command]")];
    const opened = rows.map((row) => row.dataset.command).filter((uuid) => this.isOpen(uuid));
    const query = this.onFirstPage ? "" : location.search;
    await htmx.ajax("GET", this.url + query, { source: this.box, target: this.box, swap: "innerHTML" });
    for (const uuid of opened) if (this.row(uuid)) await this.fetchRow(uuid, true);
  }
}
