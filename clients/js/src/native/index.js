/** The same for React Native: the package's `exports` choose this module there. */

import { watch as watchAnywhere } from "../watch.js";
import { fetch } from "./fetch.js";

export * from "../index.js";

export const watch = (stream, options) => watchAnywhere(stream, { fetch, ...options });
