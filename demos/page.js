// Runs once, when the page has loaded.
() => {
  // Buttons with data-copy copy the text of the element with that id to the clipboard.
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    const source = document.getElementById(button.dataset.copy);
    const said = (button.dataset.label ??= button.textContent);  // a second click sees "Copied"
    try {
      await navigator.clipboard.writeText(source.textContent);
      button.textContent = "Copied";
    } catch {
      // Without https, browsers can refuse. Then the text is shown and selected, so that Ctrl-C copies it.
      const closed = source.closest("details");
      if (closed) closed.open = true;
      else source.hidden = false;
      getSelection().selectAllChildren(source);
      button.textContent = "Selected: press Ctrl-C";
    }
    setTimeout(() => { button.textContent = said; }, 2000);
  });

  // Buttons with data-link copy a link to this page that opens the question with that id.
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-link]");
    if (!button) return;
    const link = `${location.href.split("#")[0]}#q=${button.dataset.link}`;
    try {
      await navigator.clipboard.writeText(link);
      button.textContent = "Copied";
    } catch {  // without https, browsers can refuse
      history.replaceState(null, "", link);
      button.textContent = "It is in the address bar";
    }
    setTimeout(() => { button.textContent = "Copy link"; }, 2000);
  });
  const openLink = () => { if (location.hash.startsWith("#q=")) document.getElementById("open-link").click(); };
  addEventListener("hashchange", openLink);
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a.cv-open");
    if (!link) return;
    event.preventDefault();
    history.pushState(null, "", link.href);
    openLink();  // also if the address is the same as before
  });
  const forgetLink = () => { if (location.hash.startsWith("#q=")) history.replaceState(null, "", location.href.split("#")[0]); };

  // The light or dark theme that the visitor chose.
  const dark = localStorage.getItem("colm-vl-theme");
  if (dark) document.body.classList.toggle("dark", dark === "dark");
  document.addEventListener("click", (event) => {
    if (!event.target.closest("[data-theme]")) return;
    const now = document.body.classList.toggle("dark");
    localStorage.setItem("colm-vl-theme", now ? "dark" : "light");
  });

  // A click on a picture enlarges it; another click or Esc closes it.
  const large = document.createElement("dialog");
  large.className = "cv-large";
  large.setAttribute("aria-label", "Enlarged picture");
  large.addEventListener("click", () => large.close());
  document.body.append(large);
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-zoom]");
    if (!button) return;
    large.replaceChildren(button.firstElementChild.cloneNode(true));
    large.showModal();
  });

  // Enter asks, Shift+Enter starts a new line, Ctrl+Enter asks from anywhere, Esc stops. In the field of a follow-up
  // question, Enter and Ctrl+Enter ask that one. Capturing, because Gradio asks on Shift+Enter, at keypress.
  const fields = "#question textarea, #followup textarea";
  const press = (id) => {
    const button = document.getElementById(id);
    if (button && !button.disabled) button.click();
  };
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest?.(fields);
    if (event.key === "Escape" && !large.open) press("stop");
    if (event.key !== "Enter" || event.isComposing || !(typing || event.ctrlKey || event.metaKey)) return;
    event.stopPropagation();
    if (event.shiftKey) return;
    event.preventDefault();
    typing?.dispatchEvent(new Event("change", { bubbles: true }));
    press(event.target.closest?.("#followup") ? "send" : "ask");
  }, true);

  document.addEventListener("keypress", (event) => {
    if (event.key === "Enter" && event.target.closest?.(fields)) event.stopPropagation();
  }, true);

  // The question that is being typed survives a reload.
  const draft = "colm-vl-draft";
  document.addEventListener("input", (event) => {
    if (event.target.closest?.("#question textarea")) sessionStorage.setItem(draft, event.target.value);
  });
  const restore = () => {
    const field = document.querySelector("#question textarea");
    const typed = sessionStorage.getItem(draft);
    if (field && typed && !field.value) {
      field.value = typed;
      field.dispatchEvent(new Event("input", { bubbles: true }));
    }
  };
  restore();

  // On a phone the answer is below the fields: scroll to it once it has begun to show.
  let phase = "";
  const follow = () => {
    const now = document.querySelector("#answer [data-phase]")?.dataset.phase ?? "";
    const begun = now && now !== "done" && now !== "stopped" && !(phase && phase !== "done" && phase !== "stopped");
    phase = now;
    if (now === "done") sessionStorage.removeItem(draft);
    if (begun) forgetLink();  // a reload would open that question instead
    document.body.classList.toggle("cv-working", Boolean(now) && now !== "done" && now !== "stopped");
    if (begun && innerWidth < 700) document.getElementById("answer").scrollIntoView({ block: "start" });
  };

  // While a question is being answered, tell if the server has gone.
  let missed = 0;
  setInterval(async () => {
    if (!document.body.classList.contains("cv-working")) { missed = 0; document.getElementById("cv-gone")?.remove(); return; }
    try {
      await fetch("manifest.json", { cache: "no-store", signal: AbortSignal.timeout(8000) });
      missed = 0;
    } catch { missed += 1; }
    if (missed === 0) document.getElementById("cv-gone")?.remove();
    if (missed < 2 || document.getElementById("cv-gone")) return;
    const gone = document.createElement("p");
    gone.id = "cv-gone";
    gone.className = "cv-error";
    gone.setAttribute("role", "alert");
    gone.textContent = "The server does not answer. Your question is kept: reload the page when it is back, and ask again.";
    document.getElementById("answer").before(gone);
  }, 3000);

  // Accessibility of Gradio's components, for screen readers and voice control.
  const mend = () => {
    for (const upload of document.querySelectorAll("button.upload-container[aria-label]")) {
      // The label differs from the visible text. Without it, the text is the accessible name.
      if (upload.innerText.trim()) upload.removeAttribute("aria-label");
    }
    for (const inner of document.querySelectorAll("button.icon-button button")) {
      // A button within a button: the outer one does nothing, so it becomes a plain element.
      const outer = inner.parentElement.closest("button");
      outer.setAttribute("role", "group");
      outer.tabIndex = -1;
    }
    for (const webcam of document.querySelectorAll("[aria-label='common.webcam']")) {
      webcam.setAttribute("aria-label", "Webcam");
      webcam.title = "Webcam";
    }
  };
  mend();
  new MutationObserver(follow).observe(document.getElementById("answer") ?? document.body, { childList: true, subtree: true });
  new MutationObserver(mend).observe(document.body, { childList: true, subtree: true });
}
