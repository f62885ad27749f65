/** `useStream` for React Native. */

import { useStream as useStreamAnywhere } from "../react.js";
import { fetch } from "./fetch.js";

export const useStream = (stream, options) => useStreamAnywhere(stream, { fetch, ...options });
