-- include/status: how a stream ended. KEYS and ARGV are those of the script that includes it.
-- status_of(event JSON) → the status that a terminal event gives its stream; nil for any other event.
-- is_over(status) → whether a stream with this status (false: it has none) has its terminal event.
local STATUSES = {finish = 'finished', error = 'failed', abort = 'aborted'}
local function status_of(event) return STATUSES[string.match(event, '^{"type":"([%w-]+)"') or ''] end
local function is_over(status) return status == 'finished' or status == 'failed' or status == 'aborted' end
