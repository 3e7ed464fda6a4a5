// Small pictures with names below them, one of which is chosen by a click.

function render({ model, el }) {
  el.classList.add("restyle-gallery");
  const mark = () => {
    [...el.children].forEach((button, i) => {
      button.setAttribute("aria-pressed", i === model.get("chosen"));
      button.disabled = model.get("disabled");
    });
  };
  const fill = () => {
    el.querySelectorAll("img").forEach((image) => URL.revokeObjectURL(image.src));
    el.replaceChildren(
      ...model.get("items").map(({ name, picture }, i) => {
        const button = document.createElement("button");
        const image = document.createElement("img");
        image.alt = "";
        image.src = URL.createObjectURL(new Blob([picture]));
        button.append(image, name);
        button.title = name;
        button.addEventListener("click", () => model.send({ chosen: i }));
        return button;
      }),
    );
    mark();
  };
  model.on("change:items", fill);
  model.on("change:chosen change:disabled", mark);
  fill();
}

export default { render };
