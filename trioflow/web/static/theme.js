// Sets the colours that were chosen before anything is drawn, so that the page does not flash.
"use strict";
try {
  const theme = localStorage.getItem("trioflow-theme");
  if (theme === "dark" || theme === "light") document.documentElement.dataset.theme = theme;
} catch {
  // Without storage the system's choice holds.
}
