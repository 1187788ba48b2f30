"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const canvas = document.getElementById("map");
  const card = document.getElementById("card");
  const list = document.getElementById("legend");
  const context = canvas.getContext("2d");
  const count = data.x.length;
  const SCALE = 10000;
  const REACH = 14;
  const hidden = new Set();
  const held = new Map();
  let legend = data.legends[data.by];
  let view = { x: SCALE / 2, y: SCALE / 2, zoom: 1 };
  let size = { width: 0, height: 0, unit: 1 };
  let order = [];
  let marked = [];
  let over = -1;
  let asked = false;
  let moved = 0;

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const scale = () => (size.unit / SCALE) * view.zoom;
  const toX = (x) => (x - view.x) * scale() + size.width / 2;
  const toY = (y) => (y - view.y) * scale() + size.height / 2;
  const radius = () => Math.min(9, Math.max(1.6, ((0.28 * size.unit) / Math.sqrt(count)) * Math.sqrt(view.zoom)));

  // One small image a colour: thousands of points are drawn as fast as they can be copied.
  function stamp(paint, r, ratio) {
    const side = Math.ceil(2 * r * ratio) + 2;
    const image = document.createElement("canvas");
    image.width = image.height = side;
    const pen = image.getContext("2d");
    pen.globalAlpha = 0.8;
    pen.fillStyle = paint;
    pen.beginPath();
    pen.arc(side / 2, side / 2, r * ratio, 0, 2 * Math.PI);
    pen.fill();
    return image;
  }

  function draw() {
    asked = false;
    const ratio = window.devicePixelRatio || 1;
    const r = radius();
    const stamps = legend.colours.map((paint) => stamp(paint, r, ratio));
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    for (const at of order) {
      const code = legend.codes[at];
      if (hidden.has(code)) continue;
      const x = toX(data.x[at]);
      const y = toY(data.y[at]);
      if (x < -r || y < -r || x > size.width + r || y > size.height + r) continue;
      const image = stamps[code];
      context.drawImage(image, x * ratio - image.width / 2, y * ratio - image.height / 2);
    }
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.lineWidth = 2;
    context.strokeStyle = colour("--ink");
    for (const at of over < 0 ? marked : [...marked, over]) {
      if (hidden.has(legend.codes[at])) continue;
      context.beginPath();
      context.arc(toX(data.x[at]), toY(data.y[at]), r + 3, 0, 2 * Math.PI);
      context.stroke();
    }
  }

  function redraw() {
    if (!asked) {
      asked = true;
      requestAnimationFrame(draw);
    }
  }

  function fit() {
    const box = canvas.getBoundingClientRect();
    const ratio = window.devicePixelRatio || 1;
    size = { width: box.width, height: box.height, unit: 0.92 * Math.min(box.width, box.height) };
    canvas.width = Math.max(1, Math.round(box.width * ratio));
    canvas.height = Math.max(1, Math.round(box.height * ratio));
    redraw();
  }

  function zoomAt(factor, x, y) {
    const before = { x: (x - size.width / 2) / scale() + view.x, y: (y - size.height / 2) / scale() + view.y };
    view.zoom = Math.min(400, Math.max(0.5, view.zoom * factor));
    view.x = before.x - (x - size.width / 2) / scale();
    view.y = before.y - (y - size.height / 2) / scale();
    keep();
  }

  // The map can't be lost: its middle stays within reach.
  function keep() {
    view.x = Math.min(SCALE, Math.max(0, view.x));
    view.y = Math.min(SCALE, Math.max(0, view.y));
    redraw();
  }

  function nearest(x, y) {
    let best = -1;
    let reach = (REACH + radius()) ** 2;
    for (let at = 0; at < count; at++) {
      if (hidden.has(legend.codes[at])) continue;
      // Rather one that has an image to show.
      const weight = data.images[at] ? 1 : 6;
      const apart = weight * ((toX(data.x[at]) - x) ** 2 + (toY(data.y[at]) - y) ** 2);
      if (apart < reach) {
        reach = apart;
        best = at;
      }
    }
    return best;
  }

  function line(text, name) {
    const element = document.createElement("p");
    element.textContent = text;
    if (name) element.className = name;
    return element;
  }

  function show(at) {
    if (at !== over) redraw();
    over = at;
    canvas.classList.toggle("over", at >= 0);
    card.hidden = at < 0;
    if (at < 0) return;
    const picture = document.createElement("div");
    picture.className = "picture";
    if (data.images[at]) {
      const image = document.createElement("img");
      // Before, the card is not as high as it will be.
      image.addEventListener("load", () => {
        if (over === at) place(at);
      });
      image.src = data.images[at];
      image.alt = "";
      picture.append(image);
    } else {
      picture.append(line(data.reasons[at] || data.missing));
    }
    const label = data.labels[at];
    card.replaceChildren(
      picture,
      line(`${label || "no label"}, cluster ${data.cluster[at]}`),
      line(data.ids[at], "id"),
    );
    place(at);
  }

  // Beside the point, on the side where there is room.
  function place(at) {
    const x = toX(data.x[at]);
    const y = toY(data.y[at]);
    const left = x + 18 + card.offsetWidth < size.width ? x + 18 : x - 18 - card.offsetWidth;
    const top = Math.min(size.height - card.offsetHeight - 8, Math.max(8, y - card.offsetHeight / 2));
    card.style.left = `${Math.min(size.width - card.offsetWidth - 8, Math.max(8, left))}px`;
    card.style.top = `${Math.max(8, top)}px`;
  }

  function spot(event) {
    const box = canvas.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  }

  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    held.set(event.pointerId, spot(event));
    canvas.classList.add("held");
    if (held.size === 1) moved = 0;
  });

  canvas.addEventListener("pointermove", (event) => {
    const now = spot(event);
    const last = held.get(event.pointerId);
    if (!last) {
      if (event.pointerType === "mouse") show(nearest(now.x, now.y));
      return;
    }
    const others = [...held].filter(([id]) => id !== event.pointerId).map(([, point]) => point);
    held.set(event.pointerId, now);
    moved += Math.hypot(now.x - last.x, now.y - last.y);
    if (moved < 4) return;
    show(-1);
    const steps = held.size;
    view.x -= (now.x - last.x) / scale() / steps;
    view.y -= (now.y - last.y) / scale() / steps;
    if (others.length === 1) {
      const before = Math.hypot(last.x - others[0].x, last.y - others[0].y);
      const after = Math.hypot(now.x - others[0].x, now.y - others[0].y);
      if (before > 0) zoomAt(after / before, (now.x + others[0].x) / 2, (now.y + others[0].y) / 2);
    }
    keep();
  });

  function release(event) {
    const point = held.get(event.pointerId);
    held.delete(event.pointerId);
    if (held.size === 0) canvas.classList.remove("held");
    if (point && event.type === "pointerup" && moved < 4) show(nearest(point.x, point.y));
  }
  canvas.addEventListener("pointerup", release);
  canvas.addEventListener("pointercancel", release);
  canvas.addEventListener("pointerleave", (event) => {
    if (event.pointerType === "mouse" && held.size === 0) show(-1);
  });

  canvas.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      const { x, y } = spot(event);
      show(-1);
      zoomAt(Math.exp(-event.deltaY * (event.deltaMode === 1 ? 0.05 : 0.0018)), x, y);
    },
    { passive: false },
  );

  const middle = (factor) => zoomAt(factor, size.width / 2, size.height / 2);
  function whole() {
    view = { x: SCALE / 2, y: SCALE / 2, zoom: 1 };
    redraw();
  }

  canvas.addEventListener("keydown", (event) => {
    const step = 60 / scale();
    const keys = {
      ArrowLeft: () => { view.x -= step; keep(); },
      ArrowRight: () => { view.x += step; keep(); },
      ArrowUp: () => { view.y -= step; keep(); },
      ArrowDown: () => { view.y += step; keep(); },
      "+": () => middle(1.3),
      "=": () => middle(1.3),
      "-": () => middle(1 / 1.3),
      0: whole,
      Escape: () => {},
    };
    if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    show(-1);
    keys[event.key]();
  });

  document.getElementById("in").addEventListener("click", () => middle(1.5));
  document.getElementById("out").addEventListener("click", () => middle(1 / 1.5));
  document.getElementById("all").addEventListener("click", whole);

  function choose(by) {
    legend = data.legends[by];
    hidden.clear();
    show(-1);
    for (const button of document.querySelectorAll("#by button")) {
      button.setAttribute("aria-pressed", String(button.dataset.by === by));
    }
    list.replaceChildren(...legend.names.map((name, code) => {
      const entry = document.createElement("li");
      const button = document.createElement("button");
      const dot = document.createElement("i");
      const many = document.createElement("span");
      button.type = "button";
      button.setAttribute("aria-pressed", "true");
      dot.style.background = legend.colours[code];
      many.textContent = legend.counts[code].toLocaleString("en");
      button.append(dot, name, many);
      button.addEventListener("click", () => {
        if (!hidden.delete(code)) hidden.add(code);
        button.setAttribute("aria-pressed", String(!hidden.has(code)));
        show(-1);
        redraw();
      });
      entry.append(button);
      return entry;
    }));
    redraw();
  }

  for (const by of Object.keys(data.legends)) {
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.by = by;
    button.textContent = by;
    button.addEventListener("click", () => choose(by));
    document.getElementById("by").append(button);
  }

  const find = document.getElementById("find");
  find.addEventListener("input", () => {
    const wanted = find.value.trim().toLowerCase();
    marked = [];
    for (let at = 0; wanted && at < count; at++) {
      if (data.ids[at].toLowerCase().includes(wanted) || data.labels[at].toLowerCase().includes(wanted)) marked.push(at);
    }
    const said = marked.length === 1 ? "1 point" : `${marked.length.toLocaleString("en")} points`;
    document.getElementById("found").textContent = wanted ? said : "";
    redraw();
  });

  // In no order, always the same one, so that no colour lies on top of all others.
  order = Array.from({ length: count }, (_, at) => at);
  let seed = 1;
  for (let at = count - 1; at > 0; at--) {
    seed = (seed * 48271) % 2147483647;
    const other = seed % (at + 1);
    [order[at], order[other]] = [order[other], order[at]];
  }

  document.documentElement.classList.add("js");
  choose(data.by);
  new ResizeObserver(fit).observe(canvas);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
})();
