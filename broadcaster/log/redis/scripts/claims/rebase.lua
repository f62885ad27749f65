-- rebase: a newer epoch for the worker that holds one, because Redis lost entries of an earlier attempt.
-- KEYS log, meta, lease, live channel
-- ARGV by name: worker, lease_ms, live_ttl_ms, version, epoch (the one it holds)
-- Returns as claim does: code 1, 0, or -1: the stream is not this worker's.
-- It counts no attempt. A rebase that is repeated because its reply was lost is granted the same epoch (rebased_from).
-- @include grant
if closed or is_over(meta.status) then return refuse_over() end
local is_rebased = meta.rebased_from == arg.epoch and meta.status == 'running' and is_leasable(meta.epoch)
if is_rebased and tonumber(meta.epoch) == last_epoch then return repeat_grant() end
local is_mine = is_rebased or lease == arg.worker .. ':' .. arg.epoch or (not lease and meta.epoch == arg.epoch)
if not is_mine then return refuse(-1) end
local answer = grant(true)
redis.call('HSET', KEYS[2], 'rebased_from', arg.epoch)
return answer
