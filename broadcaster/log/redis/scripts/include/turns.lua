-- include/turns: whose job is next. KEYS and ARGV are those of the script that includes it.
-- The queue's order. A member of `waiting` and `running` is `<tenant> <entry id>`, padded so that the members of one
-- tenant sort by age; both sets have one score and are read by member. `turns` scores each tenant that waits: the lowest
-- is next. A tenant's name holds no space and no `!`; it is empty for the jobs of versions that name no tenant.
-- A job with a priority waits as if it had come so many ms earlier or later (its `shift`, which ends its member of
-- `waiting`): so it passes jobs of its tenant, and none of them waits for ever.
-- @include clock
local function member_of(tenant, entry_id)
  local ms, sequence = string.match(entry_id, '^(%d+)%-(%d+)$')
  return tenant .. ' ' .. string.rep('0', 15 - #ms) .. ms .. '-' .. string.rep('0', 10 - #sequence) .. sequence
end
local function shift_of(entry)
  return entry[2][5] == 'shift' and tonumber(entry[2][6]) or 0
end
local function waiting_member_of(tenant, entry_id, shift)
  if shift == 0 then return member_of(tenant, entry_id) end
  local ms, sequence = string.match(entry_id, '^(%d+)%-(%d+)$')
  return member_of(tenant, digits(tonumber(ms) + shift) .. '-' .. sequence) .. ' ' .. digits(shift)
end
local function entry_of(member)
  local ms, sequence, shift = string.match(member, ' 0*(%d+)%-0*(%d+) ?(%-?%d*)$')
  return (shift == '' and ms or digits(tonumber(ms) - tonumber(shift))) .. '-' .. sequence
end
local function count_of(key, tenant)
  return redis.call('ZLEXCOUNT', key, '[' .. tenant .. ' ', '(' .. tenant .. '!')
end
local function oldest_of(key, tenant, count)
  return redis.call('ZRANGEBYLEX', key, '[' .. tenant .. ' ', '(' .. tenant .. '!', 'LIMIT', 0, count)
end
local function tenant_of(entry)
  return entry[2][3] == 'tenant' and entry[2][4] or ''
end
local function to_the_end(turns, tenant)
  local last = redis.call('ZREVRANGE', turns, 0, 0, 'WITHSCORES')
  redis.call('ZADD', turns, digits(tonumber(last[2] or 0) + 1), tenant)
end
-- A tenant with as many running jobs as it may have has no turn (see take): one of them has ended.
local function rejoin_turns(turns, waiting, tenant)
  if not redis.call('ZSCORE', turns, tenant) and oldest_of(waiting, tenant, 1)[1] then to_the_end(turns, tenant) end
end
