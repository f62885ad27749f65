export { start, stop } from "./calls.js";
export { BroadcasterError } from "./errors.js";
export { publish } from "./publish.js";
export { eventsUrl } from "./server.js";
export { watch } from "./watch.js";
