// Whether a tool did its work.

/**
 * Whether a result is that of a tool that failed: by its status, as Strands gives it, never by what it says.
 *
 * @param {{status?: string}|null|undefined} result
 */
export const hasFailed = (result) => result?.status === "error";
