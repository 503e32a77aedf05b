"use strict";
// The example browser. Whatever comes from the data becomes a text node, never markup.
(function () {
  const list = document.getElementById("list");
  if (!list) return;
  const PAGE = 25;
  const data = JSON.parse(document.getElementById("data").textContent);
  const search = document.getElementById("search");
  const system = document.getElementById("system");
  const cause = document.getElementById("cause");
  const count = document.getElementById("count");
  const more = document.getElementById("more");
  const texts = data.map((example) => JSON.stringify(example).toLowerCase());
  let found = [];
  let drawn = 0;

  function element(tag, text, name) {
    const node = document.createElement(tag);
    if (text !== undefined) node.textContent = text;
    if (name) node.className = name;
    return node;
  }

  function fill(select, every, values) {
    for (const [value, text] of [["", every], ...values.map((one) => [one, one])]) {
      const option = element("option", text);
      option.value = value;
      select.append(option);
    }
  }

  function entry(terms, name, value) {
    if (value === "" || value === null || value === undefined) return;
    const definition = element("dd");
    definition.append(element("bdi", String(value)));
    terms.append(element("dt", name), definition);
  }

  function turn(one, number) {
    const box = element("div", undefined, "turn");
    const outcome = one.outcome && one.outcome !== "result" ? ", " + one.outcome : "";
    box.append(element("h4", "Turn " + number + ", " + one.seconds.toPrecision(3) + " s" + outcome));
    const said = element("pre", one.text);
    said.dir = "auto";
    box.append(said);
    if (one.information) {
      const seen = element("pre", one.information, "seen");
      seen.dir = "auto";
      box.append(seen);
    }
    return box;
  }

  function body(example) {
    const terms = element("dl");
    entry(terms, "System", example.system);
    entry(terms, "Answers", example.answers.join(" | ") || "none");
    entry(terms, "Gold", example.gold.join(" | "));
    entry(terms, "Topics", example.topics.join(" | "));
    entry(terms, "F1", example.f1.toFixed(3));
    entry(terms, "Hops", example.hops);
    entry(terms, "Kind", example.kind);
    entry(terms, "Question", example.dataset + " " + example.id + ", run " + (example.sample + 1));
    entry(terms, "Cost", example.tokens + " tokens, " + example.seconds.toPrecision(3) + " s");
    entry(terms, "Error", example.error);
    entry(terms, "Because", example.evidence.map((triple) => triple.join(" — ")).join("; "));
    return [terms, ...example.turns.map((one, place) => turn(one, place + 1))];
  }

  function row(example) {
    const box = element("details", undefined, "example");
    const head = element("summary");
    head.append(element("span", example.cause, "badge " + (example.cause === "right" ? "right" : "wrong")));
    head.append(element("span", example.system, "badge"), element("bdi", example.question));
    box.append(head);
    box.addEventListener("toggle", () => {
      if (box.open && box.childElementCount === 1) box.append(...body(example));
    });
    return box;
  }

  function draw() {
    list.append(...found.slice(drawn, drawn + PAGE).map(row));
    drawn = Math.min(found.length, drawn + PAGE);
    more.hidden = drawn >= found.length;
  }

  function filter() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean).map((word) => JSON.stringify(word).slice(1, -1));
    found = data.filter((example, place) =>
      (!system.value || example.system === system.value) &&
      (!cause.value || example.cause === cause.value) &&
      words.every((word) => texts[place].includes(word)));
    count.textContent = found.length + " of " + data.length + " episodes";
    list.replaceChildren();
    drawn = 0;
    draw();
  }

  const values = (key) => [...new Set(data.map((example) => example[key]))];
  fill(system, "all systems", values("system"));
  fill(cause, "all outcomes", values("cause").sort());
  search.addEventListener("input", filter);
  system.addEventListener("change", filter);
  cause.addEventListener("change", filter);
  more.addEventListener("click", draw);
  filter();
})();
