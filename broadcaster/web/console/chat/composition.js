/** Texts that an input method composes, as of Chinese and Japanese. */

/** Whether a key belongs to the input method. Safari ends the composition before the key that does so: it sends this code. */
export const isComposing = (event) => event.isComposing || event.keyCode === 229;
