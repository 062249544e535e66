-- include: base activities instances
-- End an instance and its unfinished descendants.
-- ARGV: nonce, again, source, instance, outcome, seq, parent's notice or ''.
-- Returns an Update, or 'changed' if `seq` is not the instance's any more.

local before = answered(ARGV[1], ARGV[2])
if before then
  return before[1]
end

local function open_row(id)
  local row = redis.call(
    'HMGET', P .. 'i:' .. id, 'status', 'seq', 'queue', 'worker', 'parent', 'parent_execution',
    'priority'
  )
  return row[1] and is_open(row[1]) and row or nil
end

local function end_one(id, row)
  set_status(id, row[2], row[3], row[1], 'terminated')
  if row[4] and row[4] ~= '' then
    zrem('held:' .. row[4], id)
  else
    zrem('ready' .. lane(row[3], row[7]), id)
  end
  redis.call(
    'HSET', P .. 'i:' .. id, 'status', 'terminated', 'outcome', ARGV[5], 'finished_at', exact(now),
    'worker', '', 'sticky', '', 'wake_at', ''
  )
  redis.call('DEL', P .. 'x:' .. id)
  each_activity(id, function(execution, command, activity)
    if activity.worker == '' then
      drop_activity(id, execution, command, activity)
    else
      activity.cancel = ''
      store_activity(id, execution, command, activity)
      sadd('marked:' .. activity.worker, token_of(id, execution, command))
    end
  end)
end

local top = open_row(ARGV[4])
if not top then
  return redis.call('EXISTS', P .. 'i:' .. ARGV[4]) == 1 and 'finished' or 'not found'
end
if top[2] ~= ARGV[6] then
  return 'changed'
end
local family, at, rows = { ARGV[4] }, 1, { [ARGV[4]] = top }
while family[at] do
  for _, child in ipairs(redis.call('ZRANGE', P .. 'children:' .. family[at], 0, -1)) do
    local row = not rows[child] and open_row(child)
    if row then
      rows[child] = row
      family[#family + 1] = child
    end
  end
  at = at + 1
end
for _, id in ipairs(family) do
  end_one(id, rows[id])
end
flush()
if ARGV[7] ~= '' then
  deliver(top[5], tonumber(top[6]), ARGV[7])
  flush()
end
publish(ARGV[3])
return answer(ARGV[1], { 'done' })[1]
