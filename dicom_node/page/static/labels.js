// The keys that stand beside what they do. The page works without.
"use strict";
(() => {
  const chosen = document.getElementById("keys");
  if (!chosen) return;
  const name = "dicom-node keys";
  chosen.checked = localStorage.getItem(name) !== "off";
  chosen.closest("[hidden]").hidden = false;
  chosen.addEventListener("change", () =>
    localStorage.setItem(name, chosen.checked ? "on" : "off"));

  const none = document.querySelector('input[name="none"]');
  const groups = [...document.querySelectorAll('input[name="groups"]')];
  none.addEventListener("change", () => {
    if (none.checked) groups.forEach((one) => { one.checked = false; });
  });
  groups.forEach((one) => one.addEventListener("change", () => {
    if (one.checked) none.checked = false;
  }));

  document.addEventListener("keydown", (event) => {
    const pressed = event.key.toLowerCase();
    const at = document.activeElement;
    if (!chosen.checked || event.ctrlKey || event.altKey || event.metaKey || event.repeat) return;
    // a link or a button that has the focus is what Enter means
    if (pressed === "enter" && at && at !== document.body && at.type !== "checkbox") return;
    const meant = document.querySelector(`[data-key="${CSS.escape(pressed)}"]`);
    if (!meant) return;
    event.preventDefault();
    if (meant.type === "checkbox") meant.focus();
    meant.click();
  });
})();
