// A photograph from a file, chosen or dropped, or the camera. Files go in pieces: Jupyter drops what is over 10 MB.

const PIECE = 4 << 20;

async function transfer(model, name, file) {
  const bytes = await file.arrayBuffer();
  for (let begin = 0; begin === 0 || begin < bytes.byteLength; begin += PIECE) {
    const last = begin + PIECE >= bytes.byteLength;
    model.send({ name, begin, last }, undefined, [bytes.slice(begin, begin + PIECE)]);
  }
}

async function photograph(model, dialog) {
  const video = dialog.querySelector("video");
  const take = dialog.querySelector("[value=take]");
  take.disabled = true; // until there is something to take
  video.onloadeddata = () => (take.disabled = false);
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1920 }, facingMode: "user" } });
  } catch (error) {
    return model.send({ problem: `the camera cannot be used: ${error?.message ?? error}` });
  }
  video.srcObject = stream;
  dialog.onclose = () => {
    if (dialog.returnValue === "take") {
      const canvas = Object.assign(document.createElement("canvas"), {
        width: video.videoWidth,
        height: video.videoHeight,
      });
      canvas.getContext("2d").drawImage(video, 0, 0);
      canvas.toBlob((blob) => transfer(model, `camera ${new Date().toLocaleTimeString()}`, blob), "image/jpeg", 0.95);
    }
    stream.getTracks().forEach((track) => track.stop());
  };
  dialog.returnValue = "";
  dialog.showModal();
}

function render({ model, el }) {
  el.classList.add("restyle-source");
  el.innerHTML = `
    <button class="jupyter-button upload">Upload a photograph</button>
    <button class="jupyter-button camera">Camera</button>
    <input type="file" accept="image/*,.heic,.heif,.avif" hidden>
    <dialog class="restyle-camera"><form method="dialog">
      <video autoplay playsinline muted></video>
      <div><button class="jupyter-button" value="">Cancel</button>
      <button class="jupyter-button mod-primary" value="take">Take the picture</button></div>
    </form></dialog>`;
  const [upload, camera, input, dialog] = el.children;
  upload.addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    if (input.files.length) transfer(model, input.files[0].name, input.files[0]);
    input.value = ""; // else the same file could not be chosen twice
  });
  camera.addEventListener("click", () => photograph(model, dialog));
  el.addEventListener("dragover", (event) => event.preventDefault());
  el.addEventListener("drop", (event) => {
    event.preventDefault();
    event.stopPropagation();
    const file = event.dataTransfer.files[0];
    if (file && !model.get("disabled")) transfer(model, file.name, file);
  });
  const rest = () => (upload.disabled = camera.disabled = model.get("disabled"));
  model.on("change:disabled", rest);
  rest();
}

export default { render };
