// Runs before the first paint, so that a chosen theme does not flash. A stylesheet follows
// `data-theme`; without it, the system's preference.
(() => {
  const KEY = "wegweiser-theme";
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  const root = document.documentElement;
  const chosen = localStorage.getItem(KEY);
  if (chosen) root.dataset.theme = chosen;

  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : prefersDark.matches);

  function announce() {
    document.querySelector("[data-theme-toggle]")?.setAttribute("aria-pressed", String(isDark()));
    document.dispatchEvent(new Event("themechange"));
  }

  function toggle() {
    const theme = isDark() ? "light" : "dark";
    if ((theme === "dark") === prefersDark.matches) {
      // Back to what the system has, so that it is followed again.
      delete root.dataset.theme;
      localStorage.removeItem(KEY);
    } else {
      root.dataset.theme = theme;
      localStorage.setItem(KEY, theme);
    }
    announce();
  }

  prefersDark.addEventListener("change", announce);
  document.addEventListener("DOMContentLoaded", () => {
    document.querySelector("[data-theme-toggle]").addEventListener("click", toggle);
    announce();
  });
})();
