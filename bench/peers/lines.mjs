// Events from the benchmark's publisher: lines "<stream>\t<event>\n" on a TCP port. take(stream, event) gets each.
import net from "node:net";

export function listenForEvents(port, take) {
  net.createServer((socket) => {
    let rest = "";
    socket.setEncoding("latin1");
    socket.on("data", (text) => {
      const lines = (rest + text).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        const tab = line.indexOf("\t");
        take(line.slice(0, tab), line.slice(tab + 1));
      }
    });
  }).listen(port, "127.0.0.1");
}
