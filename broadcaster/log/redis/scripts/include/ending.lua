-- include/ending: how claim and end_stream end a stream that has no worker.
-- KEYS those of include/grant
-- ARGV also may_take_over, abort, state_lost, answered_ms, usage; see claim
-- @include grant
local STOPPED, STATE_LOST = 1, 5
local function finish(event, why)
  if arg.usage == '?' and last_seq > 0 then return refuse(-7) end
  if why == ATTEMPTS_SPENT then redis.call('HSET', KEYS[2], 'dead', 'attempts_spent') end
  if arg.usage ~= '' and arg.usage ~= '?' then write(arg.usage) end
  local id = write(event)
  redis.call('HSET', KEYS[2], 'epoch', digits(epoch), 'status', status_of(event), 'ended_ms', digits(now_ms),
    'terminal', event, 'terminal_id', id)
  redis.call('DEL', KEYS[3])
  keep_stream(KEYS[1], KEYS[2], meta.retention_ms or arg.live_ttl_ms)
  return reply(2, epoch, why)
end
-- It is older than the break of Redis: its grant may be what was lost.
local is_older = now_ms - tonumber(meta.created_ms or now_ms) > tonumber(arg.answered_ms)
-- The reply for a stream that has a worker, may have one, is unknown or has a stop requested; nil for any other.
local function reply_unless_idle()
  if lease then
    -- More is left of it than it is long: the clock has stepped back since it was renewed.
    local length_ms = tonumber(meta.leased_ms)
    if length_ms and redis.call('PTTL', KEYS[3]) > length_ms then redis.call('PEXPIRE', KEYS[3], length_ms) end
    return refuse(-1)
  end
  local may_take_over = arg.may_take_over == '1'
  if not meta.status then
    if last_seq == 0 then return refuse(-3) end
    if not may_take_over then return refuse(-2) end
    return finish(arg.state_lost, STATE_LOST)
  end
  if meta.status == 'running' and not may_take_over then return refuse(-2) end
  -- The worker of a lost grant has one lease to restore it.
  if meta.status == 'queued' and is_older and not may_take_over then return refuse(-2) end
  if meta.stop then return finish((string.gsub(arg.abort, 'stopped', meta.stop, 1)), STOPPED) end
end
