// The questions of a run, from the JSON in each element of the class "viewer". Everything in it was written by models or by
// the authors of the questions: it is shown with textContent, never as HTML. With data-local, the state is not kept in the
// address. A page that adds elements later tells so with the event "viewer-added".
"use strict";
(() => {
  const PAGE = 25;
  const MARKS = ["right", "wrong", "changed", "corrected", "regressed", "unread", "failed", "differ"];
  const TITLES = {
    right: "Right", wrong: "Wrong", changed: "Changed", corrected: "Corrected", regressed: "Regressed",
    unread: "Unread", failed: "Failed", differ: "Strategies differ",
  };
  const HELP = {
    right: "the final answer is right", wrong: "the final answer is wrong",
    changed: "a client changed its answer", corrected: "a client's answer went from wrong to right",
    regressed: "a client's answer went from right to wrong", unread: "no answer could be read from a client's reply",
    failed: "a call failed, or there is no final answer", differ: "the strategies' answers have different grades",
  };

  document.addEventListener("viewer-added", begin);
  begin();

  function begin() {
    for (const root of document.querySelectorAll(".viewer:not([data-begun])")) {
      root.dataset.begun = "";
      start(root, JSON.parse(root.querySelector("script, .v-data").textContent));
    }
  }

  function start(root, data) {
    const state = fresh();
    const local = "local" in root.dataset;
    const graded = data.items.some((item) => item.gold.length);
    const marks = MARKS.filter((mark) => (mark === "differ" ? data.strategies.length > 1
      : graded || !["right", "wrong", "corrected", "regressed"].includes(mark)));
    let page = 0;
    data.items.forEach((item) => {
      item.words = [item.id, item.question, ...item.options, ...item.gold,
        ...item.answers.map((one) => (one ? one.answer : ""))].join("\n").toLowerCase();
    });

    // --- state, and the address that reopens it ---

    function fresh() {
      return { strategy: "", marks: [], groups: {}, words: "", open: "" };
    }

    function read() {
      const [name, query] = location.hash.slice(1).split("?");
      if (local || name !== root.id) return;
      const given = new URLSearchParams(query || "");
      Object.assign(state, fresh(), {
        strategy: data.strategies.includes(given.get("strategy")) ? given.get("strategy") : "",
        marks: MARKS.filter((mark) => given.getAll("mark").includes(mark)),
        words: given.get("words") || "",
        open: given.get("open") || "",
      });
      for (const group of Object.keys(data.groups)) {
        const value = given.get(`group.${group}`);
        if (data.groups[group].includes(value)) state.groups[group] = value;
      }
      page = 0;
      const place = state.open ? matching().findIndex((item) => item.id === state.open) : -1;
      if (place >= 0) page = Math.floor(place / PAGE);
    }

    function remember() {
      if (local) return;
      const said = new URLSearchParams();
      if (state.strategy) said.set("strategy", state.strategy);
      state.marks.forEach((mark) => said.append("mark", mark));
      Object.entries(state.groups).forEach(([group, value]) => said.set(`group.${group}`, value));
      if (state.words) said.set("words", state.words);
      if (state.open) said.set("open", state.open);
      const query = said.toString();
      history.replaceState(null, "", query ? `#${root.id}?${query}` : location.pathname + location.search);
    }

    // --- filters ---

    function holds(item, number, mark) {
      const answer = item.answers[number];
      if (mark === "differ") return item.differ;
      if (mark === "right") return answer.grade !== null && answer.grade >= 0.5;
      if (mark === "wrong") return answer.grade !== null && answer.grade < 0.5;
      return answer.marks.includes(mark);
    }

    function isShown(item, marks) {
      if (Object.entries(state.groups).some(([group, value]) => item.groups[group] !== value)) return false;
      if (!item.words.includes(state.words.trim().toLowerCase())) return false;
      // All marks must hold for the same strategy.
      return item.answers.some((answer, number) => answer
        && (!state.strategy || data.strategies[number] === state.strategy)
        && marks.every((mark) => holds(item, number, mark)));
    }

    const matching = (marks = state.marks) => data.items.filter((item) => isShown(item, marks));

    // --- the controls ---

    const status = el("p", { class: "v-status", role: "status" });
    const list = el("ol", { class: "v-list" });
    const pager = el("nav", { class: "v-pager", "aria-label": "Pages of questions" });
    const chips = new Map(marks.map((mark) => {
      const button = el("button", { type: "button", class: `v-filter v-${mark}`, title: HELP[mark] });
      button.addEventListener("click", () => {
        state.marks = state.marks.includes(mark) ? state.marks.filter((one) => one !== mark) : [...state.marks, mark];
        changed();
      });
      return [mark, button];
    }));
    const strategy = select("Strategy", "any", data.strategies, (value) => { state.strategy = value; });
    const groups = Object.entries(data.groups).map(([group, values]) => [group, select(group, "all", values, (value) => {
      if (value) state.groups[group] = value; else delete state.groups[group];
    })]);
    const search = el("input", { type: "search", placeholder: "question, answer or id" });
    search.addEventListener("input", () => { state.words = search.value; changed(); });
    const reset = el("button", { type: "button", class: "v-plain" }, "Clear filters");
    reset.addEventListener("click", () => { Object.assign(state, fresh()); changed(); });
    root.append(
      el("form", { class: "v-controls", role: "search", "aria-label": "Filter the questions" },
        data.strategies.length > 1 ? label("Strategy", strategy) : "",
        ...groups.map(([group, field]) => label(group, field)),
        label("Search", search),
        el("div", { class: "v-filters", role: "group", "aria-label": "What happened" }, ...chips.values()),
      ),
      el("div", { class: "v-above" }, status, reset),
      list,
      pager,
    );
    root.querySelector("form").addEventListener("submit", (event) => event.preventDefault());

    function select(name, all, values, chosen) {
      const field = el("select", {}, el("option", { value: "" }, all), ...values.map((value) => el("option", { value }, value)));
      field.addEventListener("change", () => { chosen(field.value); changed(); });
      return field;
    }

    function changed() {
      page = 0;
      state.open = "";
      show();
    }

    // --- the list ---

    function show() {
      const found = matching();
      const pages = Math.max(1, Math.ceil(found.length / PAGE));
      page = Math.min(page, pages - 1);
      strategy.value = state.strategy;
      groups.forEach(([group, field]) => { field.value = state.groups[group] || ""; });
      if (search.value !== state.words) search.value = state.words;
      for (const [mark, button] of chips) {
        const on = state.marks.includes(mark);
        const count = on ? found.length : matching([...state.marks, mark]).length;
        button.setAttribute("aria-pressed", String(on));
        button.disabled = !on && count === 0;
        button.replaceChildren(TITLES[mark], el("span", { class: "v-count" }, number(count)));
      }
      reset.hidden = !state.strategy && !state.marks.length && !state.words && !Object.keys(state.groups).length;
      status.textContent = `${number(found.length)} of ${number(data.items.length)} questions`;
      list.replaceChildren(...found.slice(page * PAGE, (page + 1) * PAGE).map(row));
      list.start = page * PAGE + 1;
      pager.hidden = pages === 1;
      pager.replaceChildren(step("Previous", -1, page > 0), el("span", {}, `Page ${page + 1} of ${number(pages)}`),
        step("Next", 1, page < pages - 1));
      remember();
    }

    function step(name, by, possible) {
      const button = el("button", { type: "button", class: "v-plain" }, name);
      button.disabled = !possible;
      button.addEventListener("click", () => {
        page += by;
        state.open = "";
        show();
        root.scrollIntoView();
        list.querySelector("button")?.focus({ preventScroll: true });
      });
      return button;
    }

    function row(item) {
      const head = el("button", { type: "button", class: "v-head", "aria-expanded": "false" },
        el("span", { class: "v-asked" }, item.question),
        el("span", { class: "v-line" }, el("span", { class: "v-id" }, item.id),
          ...data.strategies.map((name, place) => item.answers[place] ? grade(item.answers[place], name) : "")));
      const body = el("div", { class: "v-body", hidden: "" });
      head.addEventListener("click", () => {
        toggle(head.getAttribute("aria-expanded") !== "true");
        state.open = head.getAttribute("aria-expanded") === "true" ? item.id : "";
        remember();
      });
      const toggle = (open) => {
        head.setAttribute("aria-expanded", String(open));
        body.hidden = !open;
        body.replaceChildren(...(open ? detail(item) : []));
      };
      if (item.id === state.open) toggle(true);
      return el("li", {}, head, body);
    }

    function grade(answer, name = "") {
      const before = name ? `${name}: ` : "";
      if (!graded) return name && el("span", { class: "v-chip" }, before, bdi(answer.answer || "no answer"));
      if (answer.grade === null) return el("span", { class: "v-chip" }, `${before}not graded`);
      const kind = answer.grade >= 0.5 ? "right" : "wrong";
      const part = answer.grade > 0 && answer.grade < 1 ? ` (${answer.grade.toFixed(2)})` : "";
      return el("span", { class: `v-chip v-is-${kind}` }, `${before}${kind === "right" ? "✓ right" : "✗ wrong"}${part}`);
    }

    // --- one question ---

    function detail(item) {
      const pictures = item.images.map((image, place) => {
        const source = data.pictures[image.digest];
        const title = `Picture ${place + 1} of ${item.images.length}`;
        return source
          ? el("img", { src: source, alt: title, width: image.width, height: image.height })
          : el("p", { class: "v-gone" }, `${title} is not shown here: ${image.width} × ${image.height} pixels, `,
            bdi(image.source));
      });
      const facts = el("dl", { class: "v-facts" });
      if (graded) fact(facts, "Gold", item.gold.length ? item.gold.map((one) => withText(item, one)).join(" | ") : "none, not graded");
      Object.entries(item.groups).forEach(([group, value]) => fact(facts, group, value));
      const letters = item.options.map((_, place) => String.fromCharCode(65 + place));
      return [
        el("div", { class: "v-question" },
          pictures.length ? el("div", { class: "v-pictures" }, ...pictures) : "",
          el("div", {}, el("p", { class: "v-full" }, item.question),
            letters.length ? el("ul", { class: "v-options" }, ...letters.map((letter, place) => el(
              "li", { class: item.gold.includes(letter) ? "v-gold" : "" }, `${letter}: `, bdi(item.options[place])))) : "",
            facts)),
        ...data.strategies.map((name, place) => (item.answers[place] ? story(item, name, item.answers[place]) : "")),
      ];
    }

    function story(item, name, answer) {
      const columns = [column("Drafts", answer.drafts.map((one) => reply(one)))];
      if (answer.verdict) columns.push(column("Verdict", [reply(answer.verdict)]));
      const rounds = [...new Set([...answer.guidance, ...answer.refinements].map((one) => one.round))].sort((a, b) => a - b);
      for (const round of rounds) {
        const of = rounds.length > 1 ? `, round ${round}` : "";
        const written = answer.guidance.filter((one) => one.round === round).map(guidance);
        const refined = answer.refinements.filter((one) => one.round === round).map((one) => reply(one));
        columns.push(column(`Guidance${of}`, written), column(`Refinements${of}`, refined));
      }
      return el("section", { class: "v-story", "aria-label": name },
        el("h3", {}, `${name}: `, answer.answer ? bdi(withText(item, answer.answer)) : "no answer", " ", grade(answer)),
        answer.by ? el("p", { class: "v-soft" }, answer.by) : "",
        ...answer.problems.map((text) => el("p", { class: "v-problem" }, text)),
        ...answer.notes.map((text) => el("p", { class: "v-soft" }, text)),
        el("div", { class: "v-columns" }, ...columns.filter(Boolean)));
    }

    function column(title, cards) {
      return cards.length ? el("div", {}, el("h4", {}, title), ...cards) : null;
    }

    function reply(one) {
      const kind = one.right === null ? "" : one.right ? " ✓" : " ✗";
      const confidence = one.confidence === null ? "" : `${Math.round(100 * one.confidence)} % (${one.source})`;
      return el("div", { class: `v-card${one.flip ? ` v-is-${one.flip}` : ""}` },
        el("p", { class: "v-who" }, bdi(one.client), confidence ? el("span", { class: "v-soft" }, ` ${confidence}`) : ""),
        one.answer
          ? el("p", { class: "v-said" }, bdi(one.answer), el("span", { class: one.right ? "v-good" : "v-bad" }, kind))
          : el("p", { class: "v-problem" }, "no readable answer"),
        one.flip ? el("p", { class: "v-flip" }, `${one.flip}, before: `, bdi(one.before || "no readable answer")) : "",
        one.caption ? el("p", { class: "v-text" }, one.caption) : "",
        one.text ? el("p", { class: "v-text v-raw" }, one.text) : "");
    }

    function guidance(one) {
      const parts = Object.entries(one.parts);
      return el("div", { class: "v-card v-guide" }, el("p", { class: "v-who" }, bdi(one.server)),
        ...parts.map(([name, text]) => el("p", { class: "v-text" }, name ? el("b", {}, `${name}: `) : "", text)));
    }

    function withText(item, answer) {
      const place = item.kind === "choice" && answer.length === 1 ? answer.charCodeAt(0) - 65 : -1;
      return item.options[place] === undefined ? answer : `${answer}: ${item.options[place]}`;
    }

    // Typing in the address bar, or the back button.
    if (!local) addEventListener("hashchange", () => { read(); show(); });
    read();
    show();
    if (state.open) list.querySelector("[aria-expanded=true]")?.scrollIntoView();
    else if (!local && location.hash.startsWith(`#${root.id}`)) root.scrollIntoView();
  }

  // --- elements ---

  function el(name, attributes, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
    made.append(...children.filter((child) => child !== "" && child !== null));
    return made;
  }

  function label(text, field) {
    return el("label", {}, el("span", {}, text), field);
  }

  function fact(list, name, value) {
    list.append(el("div", {}, el("dt", {}, name), el("dd", {}, value)));
  }

  /** Text whose direction does not affect what stands beside it. */
  function bdi(text) {
    return el("bdi", {}, text);
  }

  function number(value) {
    return value.toLocaleString("en");
  }
})();
