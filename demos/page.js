// Run once, when the page is there.
() => {
  // Buttons with data-copy put the text of the element of that id on the clipboard.
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    const source = document.getElementById(button.dataset.copy);
    const said = button.textContent;
    try {
      await navigator.clipboard.writeText(source.textContent);
      button.textContent = "Copied";
    } catch {
      // Without https a browser may refuse: then the code is shown and selected, for Ctrl-C.
      source.closest("details").open = true;
      getSelection().selectAllChildren(source);
      button.textContent = "Selected: press Ctrl-C";
    }
    setTimeout(() => { button.textContent = said; }, 2000);
  });

  // On a phone the answer stands below the fields: go there when something is asked.
  document.addEventListener("click", (event) => {
    if (innerWidth < 700 && event.target.closest("#ask, .cv-example")) {
      document.getElementById("answer").scrollIntoView({ block: "start" });
    }
  });

  // The framework's own parts, made fit for a screen reader and for who steers by voice.
  const mend = () => {
    for (const upload of document.querySelectorAll("button.upload-container[aria-label]")) {
      // Labelled in other words than it shows: without the label its text is its name.
      if (upload.innerText.trim()) upload.removeAttribute("aria-label");
    }
    for (const inner of document.querySelectorAll("button.icon-button button")) {
      // A button within a button: the outer one, which does nothing by itself, becomes a mere box.
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
  new MutationObserver(mend).observe(document.body, { childList: true, subtree: true });
}
