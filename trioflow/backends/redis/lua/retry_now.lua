-- include: base fenced activities instances
-- Make activities visible that wait for their next attempt. ARGV: nonce, again, source, instance, life
-- (see `is_meant`), activity (likewise). Returns an Effect.

local before = answered(ARGV[1], ARGV[2])
if before then
  return before[1]
end
local id = ARGV[4]
local row = redis.call('HMGET', P .. 'i:' .. id, 'status', 'life')
if not row[1] then
  return 'not found'
end
if not is_open(row[1]) or not is_meant(row[2], ARGV[5]) then
  return 'finished'
end
local update = 'unchanged'
each_activity(id, row[2] or '', function(execution, command, activity, life)
  local waits = activity.worker == '' and not activity.damaged and activity.visible_at > now
  if waits and is_meant(activity.activity, ARGV[6]) then
    offer_activity(id, execution, command, life, activity, now)
    update = 'done'
  end
end)
flush()
if update == 'done' then
  publish(ARGV[3])
end
return answer(ARGV[1], { update })[1]
