// What makes the pages pleasant; everything works without it.
//
//   data-live            an element with an id that is fetched anew and swapped while the page is live
//   data-confirm="TEXT"  a form or a button that asks first, in a dialog
//   data-auto            a form that is sent when a control of it changes
//   data-href            a table row that leads somewhere when it is clicked
"use strict";

(() => {
  const every = 3000; // milliseconds between two looks
  const root = document.documentElement;

  const keep = (name, value) => {
    try {
      localStorage.setItem(`trioflow-${name}`, value);
    } catch {
      // Then it is not kept.
    }
  };
  const kept = (name) => {
    try {
      return localStorage.getItem(`trioflow-${name}`);
    } catch {
      return null;
    }
  };

  // --- colours -----------------------------------------------------------------------------

  const themeSwitch = document.querySelector("[data-theme-switch]");
  if (themeSwitch) {
    themeSwitch.hidden = false;
    themeSwitch.addEventListener("click", () => {
      const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
      const next = (root.dataset.theme || system) === "dark" ? "light" : "dark";
      root.dataset.theme = next;
      keep("theme", next);
    });
  }

  // --- live parts --------------------------------------------------------------------------

  const liveSwitch = document.querySelector("[data-live-switch]");
  const parts = () => [...document.querySelectorAll("[data-live][id]")];
  let live = kept("live") !== "no";
  let failures = 0;
  let asking = null;

  // Makes `old` like `fresh`, and touches only what differs: so focus, selection, scroll and opened
  // details stay.
  const morph = (old, fresh) => {
    if (old.isEqualNode(fresh)) return;
    if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName || old.id !== fresh.id) {
      old.replaceWith(fresh);
      return;
    }
    if (old.nodeType !== Node.ELEMENT_NODE) {
      old.nodeValue = fresh.nodeValue;
      return;
    }
    const own = old.matches("details") ? ["open"] : [];
    for (const { name } of [...old.attributes]) {
      if (!fresh.hasAttribute(name) && !own.includes(name)) old.removeAttribute(name);
    }
    for (const { name, value } of [...fresh.attributes]) {
      if (old.getAttribute(name) !== value && !own.includes(name)) old.setAttribute(name, value);
    }
    if (old.matches("input, textarea, select")) return; // what somebody typed stays
    const news = [...fresh.childNodes];
    const keyed = new Map();
    for (const child of old.children) if (child.dataset.key) keyed.set(child.dataset.key, child);
    let at = old.firstChild;
    for (const node of news) {
      const same = node.dataset && node.dataset.key ? keyed.get(node.dataset.key) : at;
      if (!same || (same.dataset && same.dataset.key && same.dataset.key !== node.dataset?.key)) {
        old.insertBefore(node, at);
        continue;
      }
      if (same !== at) old.insertBefore(same, at);
      else at = at.nextSibling;
      morph(same, node);
    }
    while (at) {
      const next = at.nextSibling;
      at.remove();
      at = next;
    }
  };

  const busy = () => {
    const focus = document.activeElement;
    if (document.querySelector("dialog[open]")) return true;
    return focus && focus.closest("[data-live]") && focus.matches("input, select, textarea");
  };

  const refresh = async () => {
    asking = new AbortController();
    const answer = await fetch(location.href, { signal: asking.signal, headers: { Accept: "text/html" } });
    if (!answer.ok || answer.redirected) throw new Error(`status ${answer.status}`);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (busy()) return;
    for (const part of parts()) {
      const fresh = page.getElementById(part.id);
      if (fresh) morph(part, document.importNode(fresh, true));
    }
    document.dispatchEvent(new CustomEvent("trioflow:refreshed"));
  };

  const tick = async () => {
    if (live && !document.hidden && !busy() && parts().length) {
      try {
        await refresh();
        failures = 0;
        root.classList.remove("stale");
      } catch (error) {
        if (error.name !== "AbortError") {
          failures += 1;
          root.classList.add("stale");
        }
      }
    }
    setTimeout(tick, every * Math.min(2 ** failures, 20));
  };

  const showLive = () => {
    if (!liveSwitch) return;
    liveSwitch.setAttribute("aria-pressed", String(live));
    root.classList.toggle("paused", !live);
  };
  if (liveSwitch && parts().length) {
    liveSwitch.hidden = false;
    showLive();
    liveSwitch.addEventListener("click", () => {
      live = !live;
      keep("live", live ? "yes" : "no");
      if (!live && asking) asking.abort();
      showLive();
    });
    setTimeout(tick, every);
  }

  // --- asking before something is done -----------------------------------------------------

  const ask = (text, label) =>
    new Promise((resolve) => {
      const dialog = document.createElement("dialog");
      dialog.className = "ask";
      const words = document.createElement("p");
      words.textContent = text;
      const form = document.createElement("form");
      form.method = "dialog";
      const no = document.createElement("button");
      no.value = "no";
      no.textContent = "Keep";
      const yes = document.createElement("button");
      yes.value = "yes";
      yes.className = "danger";
      yes.textContent = label;
      form.append(no, yes);
      dialog.append(words, form);
      document.body.append(dialog);
      dialog.addEventListener("close", () => {
        dialog.remove();
        resolve(dialog.returnValue === "yes");
      });
      dialog.showModal();
    });

  document.addEventListener("submit", async (event) => {
    const form = event.target;
    const button = event.submitter;
    const text = button?.dataset.confirm || form.dataset.confirm;
    if (!text || form.dataset.asked) return;
    event.preventDefault();
    if (await ask(text, button?.textContent.trim() || "Go on")) {
      form.dataset.asked = "yes";
      let sure = form.querySelector("input[name=sure]");
      if (!sure) {
        sure = document.createElement("input");
        sure.type = "hidden";
        sure.name = "sure";
        form.append(sure);
      }
      sure.value = "yes";
      form.requestSubmit(button);
    }
  });

  // --- forms, rows, keys -------------------------------------------------------------------

  document.addEventListener("change", (event) => {
    const form = event.target.closest("form[data-auto]");
    if (form && !event.target.matches("[type=text], [type=search], textarea")) form.requestSubmit();
  });

  document.addEventListener("submit", (event) => {
    // Empty fields of a filter need not stand in the address.
    if (event.target.method !== "get") return;
    for (const field of event.target.elements) {
      if (field.name && field.value === "") field.disabled = true;
    }
    setTimeout(() => {
      for (const field of event.target.elements) field.disabled = false;
    });
  });

  document.addEventListener("click", (event) => {
    if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey) return;
    if (event.target.closest("a, button, input, label, select, summary, details")) return;
    if (String(getSelection())) return;
    const row = event.target.closest("[data-href]");
    if (row) location.assign(row.dataset.href);
  });

  document.addEventListener("keydown", (event) => {
    if (event.metaKey || event.ctrlKey || event.altKey) return;
    if (event.target.matches("input, textarea, select, [contenteditable]")) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    if (event.key === "/") {
      const search = document.querySelector("[data-search]");
      if (search) {
        event.preventDefault();
        search.focus();
        search.select();
      }
    }
  });
})();
