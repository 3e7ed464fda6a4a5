// Two pictures of one size over each other, and a divider to drag; one alone where the other is empty.

function shown(model, name, image) {
  let newest = 0;
  const update = async () => {
    const mine = ++newest;
    const bytes = model.get(name);
    image.parentElement.classList.toggle("empty", !bytes || bytes.byteLength === 0);
    if (!bytes || bytes.byteLength === 0) return image.removeAttribute("src");
    const next = new Image();
    next.src = URL.createObjectURL(new Blob([bytes]));
    await next.decode().catch(() => {}); // the old picture stays until the new one is ready, so nothing flickers
    if (mine !== newest) return URL.revokeObjectURL(next.src);
    if (image.src) URL.revokeObjectURL(image.src);
    image.src = next.src;
  };
  model.on(`change:${name}`, update);
  update();
}

function render({ model, el }) {
  el.classList.add("restyle-compare");
  el.innerHTML = `
    <div class="before"><img alt="" draggable="false"></div>
    <div class="after"><img alt="" draggable="false"></div>
    <div class="divider" role="slider" tabindex="0" aria-label="divider" aria-valuemin="0" aria-valuemax="100"></div>
    <span class="label left"></span><span class="label right"></span>
    <span class="hint"></span>`;
  const [before, after, divider] = el.children;
  shown(model, "before", before.firstElementChild);
  shown(model, "after", after.firstElementChild);

  const place = (share) => {
    const percent = 100 * Math.min(1, Math.max(0, share));
    el.style.setProperty("--divider", `${percent}%`);
    divider.setAttribute("aria-valuenow", Math.round(percent));
  };
  const follow = (event) => {
    const box = el.getBoundingClientRect();
    place((event.clientX - box.left) / box.width);
  };
  el.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    el.setPointerCapture(event.pointerId);
    divider.focus({ preventScroll: true });
    follow(event);
  });
  el.addEventListener("pointermove", (event) => el.hasPointerCapture(event.pointerId) && follow(event));
  divider.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -0.05, ArrowRight: 0.05 }[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation(); // JupyterLab would go to another cell
    place(divider.getAttribute("aria-valuenow") / 100 + step);
  });
  place(0.5);

  for (const [name, selector] of [["before_label", ".left"], ["after_label", ".right"], ["hint", ".hint"]]) {
    const text = el.querySelector(selector);
    const update = () => (text.textContent = model.get(name));
    model.on(`change:${name}`, update);
    update();
  }
}

export default { render };
