-- end_stream: end a generation that has no worker, with the stop that was requested or else with the event given.
-- KEYS log, meta, lease, live channel
-- ARGV by name: worker (the caller), lease_ms, live_ttl_ms, version, may_take_over, answered_ms, usage, abort, state_lost
--      (as for claim), terminal ('': only a requested stop ends it)
-- Returns as claim does: code 2, 0, -1, -2 or -3, or -5: no stop was requested, and there is no event to end it with.
-- @include ending
local REQUESTED = 6
if closed or is_over(meta.status) then return refuse_over() end
local answer = reply_unless_idle()
if answer then return answer end
if arg.terminal == '' then return refuse(-5) end
return finish(arg.terminal, REQUESTED)
