"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  document.documentElement.classList.add("js");

  // Tables: a button in each heading sorts by its column.
  const number = (cell) => Number.parseFloat(cell.dataset.value);
  const text = new Intl.Collator(undefined, { numeric: true });
  for (const button of document.querySelectorAll("th button")) {
    button.addEventListener("click", () => {
      const heading = button.closest("th");
      const table = heading.closest("table");
      const column = heading.cellIndex;
      const numeric = heading.classList.contains("number");
      const now = heading.getAttribute("aria-sort");
      const ascending = now === "none" ? !numeric : now === "descending";
      for (const other of heading.parentElement.cells) other.setAttribute("aria-sort", "none");
      heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
      const rows = [...table.tBodies[0].rows];
      const compare = numeric
        ? (a, b) => number(a.cells[column]) - number(b.cells[column])
        : (a, b) => text.compare(a.cells[column].textContent, b.cells[column].textContent);
      rows.sort((a, b) => (ascending ? compare(a, b) : compare(b, a)));
      table.tBodies[0].append(...rows);
    });
  }

  // Suspects: what is ticked becomes corrections.csv, of ids and labels.
  const cards = [...document.querySelectorAll(".suspect")];
  const save = document.getElementById("save");
  if (!save) return;
  const count = document.getElementById("count");
  const after = document.getElementById("after");
  const more = document.getElementById("more");
  let unsaved = false;

  const choice = (card) => card.querySelector("input[type=radio]:checked")?.value ?? "keep";
  const typed = (card) => card.querySelector("input[type=text]").value.trim();

  // The new label of a card, empty for none, or null where nothing changes.
  const label = (card) => {
    const row = data.suspects[Number(card.dataset.index)];
    const chosen = choice(card);
    if (chosen === "suggested") return row.suggested;
    if (chosen === "none") return "";
    if (chosen === "other" && typed(card) && typed(card) !== row.label) return typed(card);
    return null;
  };

  const corrections = () =>
    cards.flatMap((card) => {
      const changed = label(card);
      return changed === null ? [] : [[data.suspects[Number(card.dataset.index)].id, changed]];
    });

  const refresh = () => {
    for (const card of cards) {
      const other = card.querySelector("input[type=text]");
      if (other) other.hidden = choice(card) !== "other";
      card.classList.toggle("changed", label(card) !== null);
    }
    const changes = corrections().length;
    save.disabled = changes === 0;
    count.textContent =
      changes === 0 ? "No label changed yet." : `${changes} label${changes === 1 ? "" : "s"} to change.`;
  };

  for (const card of cards) {
    card.addEventListener("change", (event) => {
      unsaved = true;
      after.hidden = true;
      refresh();
      if (event.target.value === "other") card.querySelector("input[type=text]").focus();
    });
    card.addEventListener("input", () => {
      unsaved = true;
      refresh();
    });
  }

  const quoted = (value) => (/[",\r\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);

  save.addEventListener("click", () => {
    const lines = [["id", "label"], ...corrections()].map((row) => row.map(quoted).join(","));
    const blob = new Blob([lines.join("\r\n"), "\r\n"], { type: "text/csv;charset=utf-8" });
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = "corrections.csv";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    unsaved = false;
    after.hidden = false;
  });

  addEventListener("beforeunload", (event) => {
    if (unsaved && corrections().length) event.preventDefault();
  });

  if (more) {
    for (const card of cards.slice(data.shown)) card.hidden = true;
    more.hidden = false;
    more.addEventListener("click", () => {
      const next = cards.find((card) => card.hidden);
      for (const card of cards) card.hidden = false;
      more.hidden = true;
      next?.querySelector("input")?.focus();
    });
  }
  refresh();
})();
