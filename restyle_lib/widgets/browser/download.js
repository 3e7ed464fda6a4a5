// A button that saves a file, which the kernel makes when it is asked for.

function render({ model, el }) {
  el.innerHTML = `<button class="jupyter-button restyle-download"></button>`;
  const button = el.firstElementChild;
  let waiting = false;
  const update = () => {
    button.textContent = model.get("label");
    button.title = `Save: ${model.get("label")}`;
    button.disabled = waiting || model.get("disabled");
  };
  button.addEventListener("click", () => {
    waiting = true;
    update();
    model.send({});
  });
  model.on("msg:custom", ({ name }, buffers) => {
    waiting = false;
    update();
    if (!name) return; // it could not be made, and the explorer says why
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob(buffers));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  });
  model.on("change:label change:disabled", update);
  update();
}

export default { render };
