// A classic script, loaded in <head> before anything is painted: the stored choice of theme, without a flash.
(() => {
  try {
    const theme = localStorage.getItem("theme");
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  } catch {
    // Storage can be switched off; the system's preference serves then.
  }
})();
