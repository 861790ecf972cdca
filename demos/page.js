// Runs once, when the page has loaded.
() => {
  // Buttons with data-copy copy the text of the element with that id to the clipboard.
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    const source = document.getElementById(button.dataset.copy);
    const said = button.textContent;
    try {
      await navigator.clipboard.writeText(source.textContent);
      button.textContent = "Copied";
    } catch {
      // Without https, browsers can refuse. Then the code is shown and selected, so that Ctrl-C copies it.
      source.closest("details").open = true;
      getSelection().selectAllChildren(source);
      button.textContent = "Selected: press Ctrl-C";
    }
    setTimeout(() => { button.textContent = said; }, 2000);
  });

  // On a phone the answer is below the fields: scroll to it when a question is asked.
  document.addEventListener("click", (event) => {
    if (innerWidth < 700 && event.target.closest("#ask, .cv-example")) {
      document.getElementById("answer").scrollIntoView({ block: "start" });
    }
  });

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
  new MutationObserver(mend).observe(document.body, { childList: true, subtree: true });
}
