/** The ranges of one text after another, beside the page (range_finder.js). */

import { rangesOf } from "./ranges.js";

onmessage = ({ data: { text, name } }) => postMessage(rangesOf(text, name));
postMessage(null); // ready
