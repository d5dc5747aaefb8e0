// Runs before the first paint, so that a chosen theme does not flash. Pages, admin and API docs share
// one choice: the key, and JSON as its text, are those of the admin's own switch (Unfold).
(() => {
  const KEY = "adminTheme";
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  const root = document.documentElement;

  // "light", "dark", or "auto", which follows the system.
  function choice() {
    try {
      const chosen = JSON.parse(localStorage.getItem(KEY));
      return ["light", "dark"].includes(chosen) ? chosen : "auto";
    } catch {
      return "auto";
    }
  }

  function apply() {
    const chosen = choice();
    if (chosen === "auto") delete root.dataset.theme;
    else root.dataset.theme = chosen;
    // The API docs (Swagger UI) ask for this class.
    root.classList.toggle("dark-mode", chosen === "dark" || (chosen === "auto" && prefersDark.matches));
    for (const button of document.querySelectorAll("[data-theme-choice]")) {
      button.setAttribute("aria-pressed", String(button.dataset.themeChoice === chosen));
    }
    document.dispatchEvent(new Event("themechange"));
  }

  apply();
  prefersDark.addEventListener("change", apply);
  // Chosen in another tab.
  addEventListener("storage", apply);
  document.addEventListener("DOMContentLoaded", apply);
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-theme-choice]");
    if (!button) return;
    localStorage.setItem(KEY, JSON.stringify(button.dataset.themeChoice));
    apply();
    button.closest("details").open = false;
  });
})();
