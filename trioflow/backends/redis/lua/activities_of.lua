-- include: base activities
-- Return the unfinished activities of an instance's current execution. ARGV: id.

local row = redis.call('HMGET', P .. 'i:' .. ARGV[1], 'execution', 'life')
local current, life = tonumber(row[1] or 0), row[2] or ''
local reply = {}
each_activity(ARGV[1], life, function(execution, command, activity)
  if execution == current then
    reply[#reply + 1] = describe_unfinished(ARGV[1], execution, command, life, activity)
  end
end)
return reply
