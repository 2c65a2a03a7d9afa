// Says when a newer revision of the record on this page is there. The page works without it.
const stream = document.body.dataset.stream;
const note = document.getElementById("newer");
if (stream && note && window.EventSource) {
  const source = new EventSource(stream);
  source.onmessage = () => {
    note.hidden = false;
    source.close();
  };
}
