-- include: base activities
-- Return the unfinished activities of an instance's current execution. ARGV: id.

local current = tonumber(redis.call('HGET', P .. 'i:' .. ARGV[1], 'execution') or 0)
local reply = {}
each_activity(ARGV[1], function(execution, command, activity)
  if execution == current then
    reply[#reply + 1] = describe(ARGV[1], execution, command, activity)
  end
end)
return reply
