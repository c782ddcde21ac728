"use strict";
const root = document.documentElement;
root.classList.remove("no-js");
const all = (selector, within = document) => [...within.querySelectorAll(selector)];

document.getElementById("theme").addEventListener("click", () => {
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
});

// Sort a table by a column: numbers by data-v, the largest first and unknown ones last; words from A.
for (const head of all("table.sortable th[data-sort]")) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = head.textContent;
  head.replaceChildren(button);
  button.addEventListener("click", () => {
    const numbers = head.dataset.sort === "number", now = head.getAttribute("aria-sort");
    const falling = now ? now !== "descending" : numbers;
    const body = head.closest("table").tBodies[0], column = head.cellIndex, sign = falling ? -1 : 1;
    const key = (row) => row.cells[column].dataset.v ?? row.cells[column].textContent;
    const compare = (a, b) => {
      const [x, y] = [key(a), key(b)];
      if (!numbers) return sign * x.localeCompare(y);
      if (x === "" || y === "") return (x === "") - (y === "");
      return sign * (Number(x) - Number(y));
    };
    const order = [...body.rows].sort(compare);
    for (const other of all("th", head.closest("thead"))) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", falling ? "descending" : "ascending");
    body.append(...order);
  });
}

// Show the rows or examples that fit every chosen filter, and say how many.
for (const bar of all("[data-filters]")) {
  const items = all(bar.dataset.filters), count = bar.querySelector("output");
  const more = all("[data-more]").find((button) => button.dataset.more === bar.dataset.filters);
  const step = more ? Number(more.dataset.step) : Infinity;
  let most = step;
  const show = () => {
    const wanted = all("select", bar).filter((s) => s.value).map((s) => [s.name, s.value]);
    const fit = items.filter((item) => wanted.every(([name, value]) => item.dataset[name].split(" ").includes(value)));
    const shown = new Set(fit.slice(0, most));
    for (const item of items) item.hidden = !shown.has(item) && !(item.id && `#${item.id}` === location.hash);
    if (more) more.hidden = fit.length <= most;
    count.textContent = `${Math.min(most, fit.length)} of ${fit.length} shown`;
  };
  more?.addEventListener("click", () => { most += step; show(); });
  bar.addEventListener("change", () => { most = step; show(); });
  addEventListener("hashchange", show);
  show();
}

// Of several models, one at a time.
const chosen = document.getElementById("model");
if (chosen) {
  const models = all(".model");
  const show = () => { for (const model of models) model.hidden = chosen.value !== "" && model.id !== chosen.value; };
  const follow = () => {
    const target = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
    const model = target && target.closest(".model");
    if (model && chosen.value !== "") { chosen.value = model.id; show(); target.scrollIntoView(); }
  };
  chosen.addEventListener("change", show);
  addEventListener("hashchange", follow);
  show();
  follow();
}

for (const button of all("[data-copy]")) {
  button.addEventListener("click", async () => {
    const source = document.getElementById(button.dataset.copy);
    const cell = (c) => c.dataset.v && !Number.isNaN(Number(c.dataset.v)) ? c.dataset.v : c.textContent.trim();
    const text = source.rows
      ? [...source.rows].map((row) => [...row.cells].map(cell).join("\t")).join("\n")
      : source.textContent;
    try { await navigator.clipboard.writeText(text); button.textContent = "Copied"; }
    catch { getSelection().selectAllChildren(source); button.textContent = "Selected: press Ctrl+C"; }
  });
}
addEventListener("beforeprint", () => { for (const part of all("details")) part.open = true; });
