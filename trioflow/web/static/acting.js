// Forms of actions in a dialog, and steps that go on by themselves; everything works without.
//
//   a[data-act]        leads to a page with a form `#act`, which is shown in a dialog instead
//   form[data-go-on]   is sent by itself, unless somebody stops it with [data-stop]
"use strict";

(() => {
  const open = (panel) => {
    const dialog = document.createElement("dialog");
    dialog.className = "act";
    const heading = panel.querySelector("h1");
    if (heading) {
      heading.id = "act-title";
      dialog.setAttribute("aria-labelledby", heading.id);
    }
    dialog.append(panel);
    document.body.append(dialog);
    dialog.addEventListener("close", () => dialog.remove());
    dialog.addEventListener("click", (event) => {
      if (event.target === dialog) dialog.close();
      if (event.target.closest("[data-close]")) {
        event.preventDefault();
        dialog.close();
      }
    });
    dialog.showModal();
    const first = dialog.querySelector("input:not([type=hidden]), textarea, [data-close]");
    if (first) first.focus();
  };

  document.addEventListener("click", async (event) => {
    const link = event.target.closest("a[data-act]");
    if (!link || event.defaultPrevented || event.button !== 0) return;
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    try {
      const answer = await fetch(link.href, { headers: { Accept: "text/html" } });
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const panel = answer.ok && page.getElementById("act");
      if (!panel) throw new Error("it is no form");
      open(document.importNode(panel, true));
    } catch {
      location.assign(link.href);
    }
  });

  const going = document.querySelector("form[data-go-on]");
  if (going) {
    const timer = setTimeout(() => going.requestSubmit(), 400);
    const stop = going.querySelector("[data-stop]");
    stop.hidden = false;
    stop.addEventListener("click", () => {
      clearTimeout(timer);
      stop.hidden = true;
    });
  }
})();
